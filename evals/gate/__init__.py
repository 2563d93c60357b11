"""The gate: paired non-inferiority by declared rules, verdicts with reasons, one winner or none."""
