"""Stage `quantize`: one checkpoint per candidate, its source packed by its recipe."""
