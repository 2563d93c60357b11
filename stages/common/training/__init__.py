"""One training loop for every stage: shards, sampler, losses, optimiser, exact resume, evaluation."""
