"""`make proof`: the claims of the docs, measured. One resumable module per claim, each writes one JSON."""
