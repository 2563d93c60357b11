"""Stage `judge`: the candidate's answers against the champion's, judged in both orders."""
