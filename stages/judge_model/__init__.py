"""Stage `judge_model`: the embedded world's own judge, or a note of which other judge was named."""
