"""FineGates (arXiv 2602.09169) as a peft method of our own: gates learn which units a smaller model keeps."""
