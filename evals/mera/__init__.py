"""What is MERA's own (v1.2, arXiv 2401.04531): adapter, answers, metrics, dialogue, code, total, submission."""
