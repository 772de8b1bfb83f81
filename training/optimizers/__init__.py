"""Optimizers: one module per kind, with `build(groups, settings)`; schedules, precision and averages of weights beside
them.
"""

import importlib
from typing import Any

import torch
from torch import nn

from common import kinds
from common.errors import UsageError
from schemas.kinds import AnyOptimizer

Groups = list[dict[str, Any]]
"""Groups of parameters as torch's optimizers take them."""


def build(model: nn.Module, settings: AnyOptimizer) -> torch.optim.Optimizer:
    """Build the optimizer of `[optimizer] kind` over the model's trainable parameters.

    Raises UsageError where its package is not installed.
    """
    optimizer: torch.optim.Optimizer = kinds.module("training.optimizers", settings.kind, "build").build(
        groups_of(model, settings), settings
    )
    return optimizer


def groups_of(model: nn.Module, settings: AnyOptimizer) -> Groups:
    """Return the trainable parameters in groups with a `weight_decay` each: that of the settings, by either name, for
    matrices, none for biases and norms, which are vectors.
    """
    decay = getattr(settings, "weight_decay", getattr(settings, "l2", 0.0))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: Groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def of_package(kind: str, name: str) -> Any:
    """Return a class of the package pytorch-optimizer, an extra. Raises UsageError where it is not installed."""
    try:
        package = importlib.import_module("pytorch_optimizer")
    except ImportError as error:
        raise UsageError(
            f"optimizer.kind = {kind!r} needs the package pytorch-optimizer: install ringlake[optimizers], or "
            "requirements/optimizers.txt"
        ) from error
    return getattr(package, name)
