"""lowbit: compact checkpoints that plain Transformers loads."""
