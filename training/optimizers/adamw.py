"""AdamW."""

import torch

from schemas.optimizers.adamw import AdamW
from training.optimizers import Groups


def build(groups: Groups, settings: AdamW) -> torch.optim.Optimizer:
    """Build AdamW (Loshchilov and Hutter 2019)."""
    return torch.optim.AdamW(
        groups,
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )
