"""Stochastic gradient descent."""

import torch

from schemas.optimizers.sgd import Sgd
from training.optimizers import Groups


def build(groups: Groups, settings: Sgd) -> torch.optim.Optimizer:
    """Build gradient descent with momentum, whose `weight_decay` of a group is an L2 term in the gradient."""
    return torch.optim.SGD(
        groups,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        fused=True,
    )
