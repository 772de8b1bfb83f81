"""Differential privacy of a training: accountants, clipped sums of gradients by row, noise and its key."""
