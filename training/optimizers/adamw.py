"""AdamW and its learning rate."""

import math

import torch
from torch import nn

from schemas.optimizers.adamw import AdamW


def build(model: nn.Module, settings: AdamW) -> torch.optim.Optimizer:
    """Build AdamW (Loshchilov and Hutter 2019); biases and norms, which are vectors, do not decay."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )


def learning_rate(settings: AdamW, step: int, total: int) -> float:
    """Return the rate of a step, counted from 0: a linear warm-up, then half a cosine down to `final`.

    Cosine annealing as in Loshchilov and Hutter 2017 (SGDR), without restarts.
    """
    warm_up = round(settings.warm_up * total)
    if step < warm_up:
        return settings.learning_rate * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, total - warm_up)
    share = settings.final + (1 - settings.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return settings.learning_rate * share
