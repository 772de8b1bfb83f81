"""The smallest model, objective and batch, for tests of methods that need no data set."""

from typing import Any

import numpy as np
import torch
from torch import nn

from schemas.kinds import AnyMethod, AnyOptimizer
from schemas.methods.plain import Plain
from schemas.optimizers.adamw import AdamW
from schemas.settings import Train
from training import methods
from training.input.batch_loader import LocalBatch
from training.objectives.classification import Classification
from training.parallel.communicator import Communicator

CLASSES = 3


class Linear(nn.Module):
    """The smallest model: a linear layer on four numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, CLASSES)

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"logits": self.layer(features["x"])}


class Classes(Classification):
    """The objective without a data set."""

    def __init__(self, weights: torch.Tensor | None) -> None:
        self.class_weights, self.weighted = weights, weights is not None
        self.outputs = {"logits": CLASSES}
        self.portions = {"train": torch.ones(CLASSES)}


def a_batch(first: int, last: int, global_rows: int) -> LocalBatch:
    generator = torch.Generator().manual_seed(5)
    x, labels = torch.randn(8, 4, generator=generator), torch.arange(8) % CLASSES
    keys = np.zeros((last - first, 2), dtype=np.uint64)
    return LocalBatch(
        {"x": x[first:last]}, labels[first:last], keys, None, last - first, global_rows, 0, global_rows
    )


def method_of(
    model: nn.Module,
    communicator: Communicator,
    weights: torch.Tensor | None = None,
    optimizer: AnyOptimizer | None = None,
    kind: AnyMethod | None = None,
    **train: Any,
) -> methods.Method:
    settings = Train.model_validate({"clip_norm": None, **train})
    used = optimizer or AdamW(kind="adamw", learning_rate=0.1, weight_decay=0.1, warm_up=0.0)
    device = torch.device("cpu")
    return methods.build(
        methods.MethodContext(
            model, Classes(weights), kind or Plain(), used, settings, communicator, device, 10
        )
    )


def gradients(model: nn.Module) -> list[torch.Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]
