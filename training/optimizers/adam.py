"""Adam."""

import torch

from schemas.optimizers.adam import Adam
from training.optimizers import Groups


def build(groups: Groups, settings: Adam) -> torch.optim.Optimizer:
    """Build Adam (Kingma and Ba 2015), whose `weight_decay` of a group is an L2 term in the gradient."""
    return torch.optim.Adam(
        groups,
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )
