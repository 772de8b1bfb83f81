"""Attacks on a model by gradient, for adversarial training and for evaluation."""
