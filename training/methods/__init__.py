"""Ways of training, one file a kind: how the terms of an objective become an update.

`training/methods/<kind>.py` has one subclass of `Method`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from common import kinds
from schemas.kinds import AnyMethod, AnyOptimizer
from schemas.settings import Train
from training.input.batch_loader import LocalBatch
from training.objectives import Objective
from training.parallel.communicator import Communicator


@dataclass(frozen=True)
class Setting:
    """What a method works with."""

    model: nn.Module
    objective: Objective
    method: AnyMethod
    optimizer: AnyOptimizer
    train: Train
    communicator: Communicator
    device: torch.device
    total_steps: int


@dataclass(frozen=True)
class StepResult:
    """What one rank knows after a step."""

    loss_sum: torch.Tensor
    """Scalar: the weighted losses of this rank's units, summed."""
    weight_sum: torch.Tensor
    """Scalar: the weights of this rank's units, summed."""
    gradient_norm: torch.Tensor
    """Scalar: of the global gradient before clipping, the same on all ranks; where it is not finite the step changed
    neither weights nor state."""
    learning_rate: float


class Method(ABC):
    """One step of training, and the state that a checkpoint needs besides the model."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.model = setting, setting.model

    @abstractmethod
    def step(self, batch: LocalBatch, step: int, scheduled: int | None = None) -> StepResult:
        """Learns from a global batch; called by all ranks together.

        `step` counts from 0 and seeds; `scheduled` is the step of the learning rate's schedule, where it differs.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Tensors and plain values alone, so that it loads without trusting the file."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Takes over what `state` returned."""

    @abstractmethod
    def broadcast(self) -> None:
        """Gives all ranks the weights and the state of rank 0."""


def build(setting: Setting) -> Method:
    """The method of `[method] kind`."""
    found = kinds.subclass("training.methods", setting.method.kind, Method)
    return cast(type[Method], found)(setting)
