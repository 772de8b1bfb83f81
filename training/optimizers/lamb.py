"""LAMB."""

import torch

from schemas.optimizers.lamb import Lamb
from training.optimizers import Groups, of_package


def build(groups: Groups, settings: Lamb) -> torch.optim.Optimizer:
    """Build LAMB (You et al. 2020, "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes")."""
    optimizer: torch.optim.Optimizer = of_package(settings.kind, "Lamb")(
        groups, lr=settings.learning_rate, betas=(settings.beta1, settings.beta2), eps=settings.epsilon
    )
    return optimizer
