"""Stage `validate`: the data contract between the corpus and everything that trains on it."""
