"""Stage `gate`: a verdict with reasons per candidate, and one winner or none."""
