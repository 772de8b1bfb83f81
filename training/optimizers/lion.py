"""Lion."""

import torch

from schemas.optimizers.lion import Lion
from training.optimizers import Groups, of_package


def build(groups: Groups, settings: Lion) -> torch.optim.Optimizer:
    """Build Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms")."""
    optimizer: torch.optim.Optimizer = of_package(settings.kind, "Lion")(
        groups, lr=settings.learning_rate, betas=(settings.beta1, settings.beta2)
    )
    return optimizer
