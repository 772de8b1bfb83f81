"""The training loop: its state, start, end and recovery."""
