"""`make proof`: the claims of the docs, measured. One module per claim, each resumable, each writing one JSON."""
