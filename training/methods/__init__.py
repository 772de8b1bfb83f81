"""Ways of training, one file each: `training/methods/<name>.py` with a class `Method`, chosen by `train.method`."""

import importlib
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import nn

from schemas.kinds import AnyOptimizer
from schemas.settings import Train
from training.input.batch_loader import LocalBatch
from training.parallel.communicator import Ring


@dataclass(frozen=True)
class Setting:
    """What a method works with."""

    model: nn.Module
    optimizer: AnyOptimizer
    train: Train
    ring: Ring
    device: torch.device
    total_steps: int
    class_weights: torch.Tensor | None
    """(classes,), float32; None: all alike."""


@dataclass(frozen=True)
class StepResult:
    """What one rank knows after a step."""

    loss_sum: torch.Tensor
    """Scalar: the weighted losses of this rank's rows, summed."""
    weight_sum: torch.Tensor
    """Scalar: the weights of this rank's rows, summed; their number where all count alike."""
    gradient_norm: torch.Tensor
    """Scalar: of the global gradient before clipping, the same on all ranks; where it is not finite the step changed
    neither weights nor state."""
    learning_rate: float


class Method(Protocol):
    """One step of training, and the state that a checkpoint needs besides the model."""

    def __init__(self, setting: Setting) -> None: ...

    def step(self, batch: LocalBatch, step: int, scheduled: int | None = None) -> StepResult:
        """Learns from a global batch; called by all ranks together.

        `step` counts from 0 and seeds; `scheduled` is the step of the learning rate's schedule, where it differs.
        """

    def state(self) -> dict[str, Any]:
        """Tensors and plain values alone, so that it loads without trusting the file."""

    def load_state(self, state: dict[str, Any]) -> None: ...

    def broadcast(self) -> None:
        """Gives all ranks the weights and the state of rank 0."""


def build(setting: Setting) -> Method:
    """The method that `train.method` names."""
    module = importlib.import_module(f"training.methods.{setting.train.method}")
    return cast(Method, module.Method(setting))
