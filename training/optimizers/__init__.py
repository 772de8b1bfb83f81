"""Optimizers: one module per kind, with `build(model, settings)` and `learning_rate(settings, step, total)`."""

import torch
from torch import nn

from common import kinds
from schemas.kinds import AnyOptimizer


def build(model: nn.Module, settings: AnyOptimizer) -> torch.optim.Optimizer:
    """Build the optimizer of `[optimizer] kind` over the model's trainable parameters."""
    optimizer: torch.optim.Optimizer = kinds.module("training.optimizers", settings.kind, "build").build(
        model, settings
    )
    return optimizer


def learning_rate(settings: AnyOptimizer, step: int, total: int) -> float:
    """Return the learning rate of a step, counted from 0, out of `total`."""
    rate: float = kinds.module("training.optimizers", settings.kind, "learning_rate").learning_rate(
        settings, step, total
    )
    return rate
