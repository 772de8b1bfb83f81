"""Checkpoints: the store with its hash chain, and the thread that saves."""
