"""The training loop, its state, its start and end, recovery."""
