"""What is MERA's own (v1.2, arXiv 2401.04531): answers, metrics, dialogue, code, score, total, submission."""
