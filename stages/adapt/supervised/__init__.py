"""Supervised examples as batches: the chat template, answers alone in the loss, rows of whole examples."""
