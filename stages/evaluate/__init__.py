"""Stage `evaluate`: task scores, bits per character and open answers of one candidate, or of the champion."""
