"""Stage `distill`: a smaller student learns the distribution of the teacher."""
