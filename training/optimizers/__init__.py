"""Optimizers: one module a kind."""
