"""A local model as judge of two answers: its layout, verdicts in both orders, how far it can be trusted."""
