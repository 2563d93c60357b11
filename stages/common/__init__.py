"""What several stages share: parameters, atomic outs, manifests, checkpoints, the training loop."""
