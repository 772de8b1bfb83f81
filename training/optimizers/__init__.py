"""Optimizers: one module per kind, with `build(groups, settings)`; schedules, precision and averages of weights beside
them.
"""

import importlib
import sys
from typing import Any

import torch
from torch import nn

from common import kinds
from common.errors import UsageError
from common.wording import extra
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
    """Return the trainable parameters in groups with a `weight_decay` and a `share` of the learning rate each.

    The decay is that of the settings, by either name, for matrices, none for biases and norms, which are vectors; the
    share is 1, or that of `head_learning_rate`. Raises UsageError for the latter where no parameter is known as head.
    """
    decay = getattr(settings, "weight_decay", getattr(settings, "l2", 0.0))
    beginning, rate = heads_of(model), settings.head_learning_rate
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    heads = (
        {name for name, _ in named if beginning and name.startswith(beginning)} if rate is not None else set()
    )
    if rate is not None and not heads:
        raise UsageError(
            "optimizer.head_learning_rate: this model has no parameters above a body, or all of them are frozen: leave "
            "it out"
        )
    shares = [1.0] if rate is None else [1.0, rate / settings.learning_rate]
    groups: Groups = [
        {
            "params": [
                p for name, p in named if (p.ndim >= 2) is matrix and (name in heads) is (number == 1)
            ],
            "weight_decay": decay if matrix else 0.0,
            "share": share,
        }
        for number, share in enumerate(shares)
        for matrix in (True, False)
    ]
    return [group for group in groups if group["params"]]


def heads_of(model: nn.Module) -> str:
    """Return the beginning of the names of the tensors above a model's body; "" where its module names none."""
    return str(getattr(sys.modules[type(model).__module__], "HEADS", ""))


def of_package(kind: str, name: str) -> Any:
    """Return a class of the package pytorch-optimizer, an extra. Raises UsageError where it is not installed."""
    try:
        package = importlib.import_module("pytorch_optimizer")
    except ImportError as error:
        raise UsageError(
            f"optimizer.kind = {kind!r} needs the package pytorch-optimizer: {extra('optimizers')}"
        ) from error
    return getattr(package, name)
