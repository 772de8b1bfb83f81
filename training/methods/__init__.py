"""Training methods, one file per kind: they turn the terms of an objective into an update.

`training/methods/<kind>.py` has one subclass of `Method`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, cast

import torch
from torch import nn

from common import kinds
from schemas.config import Configuration
from schemas.kinds import AnyMethod, AnyOptimizer
from schemas.manifest import Manifest
from schemas.settings import Train
from training.input.batch_loader import LocalBatch
from training.objectives import Objective, Terms, terms_of
from training.optimizers.schedules import learning_rate
from training.parallel.communicator import Communicator


@dataclass(frozen=True)
class RunContext:
    """Data of a training and the folder of its run, for methods whose update depends on them."""

    config: Configuration
    manifest: Manifest
    run: Path


@dataclass(frozen=True)
class MethodContext:
    """Context of a method: model, objective, settings, communicator and device."""

    model: nn.Module
    objective: Objective
    method: AnyMethod
    optimizer: AnyOptimizer
    train: Train
    communicator: Communicator
    device: torch.device
    total_steps: int
    of_run: RunContext | None = None

    @property
    def steps_of_an_epoch(self) -> int:
        """Steps of each epoch, all of which are equally long."""
        return self.total_steps // self.train.epochs

    def learning_rate(self, step: int) -> float:
        """Return the rate of a step of the schedule, counted from 0."""
        return learning_rate(self.optimizer, step, self.total_steps, self.train.epochs)


@dataclass(frozen=True)
class StepResult:
    """Results of a step on one rank."""

    loss_sum: torch.Tensor
    """Scalar: sum of the weighted losses of this rank's units."""
    weight_sum: torch.Tensor
    """Scalar: sum of the weights of this rank's units."""
    gradient_norm: torch.Tensor
    """Scalar: norm of the global gradient before clipping, the same on all ranks; if it is not finite, the step changed
    neither weights nor state.
    """
    learning_rate: float
    overflow: bool = False
    """True if the norm is not finite because the scale of `train.precision = "fp16"` was too high; the same on all
    ranks.
    """


class Batches(Protocol):
    """Batches that a method takes in place of every row in its order; an iterable and a context manager."""

    seconds_waited: float
    described: str
    """Rows of an epoch in words."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def __iter__(self) -> Iterator[LocalBatch]: ...

    def check(self, what: str) -> None:
        """Raise CheckError unless all ranks together took the rows of an epoch; called by all of them at its end."""


class Method(ABC):
    """One step of training, and the state that a checkpoint needs besides the model."""

    hides_batches: ClassVar[bool] = False
    """True if nothing of a single batch may be published: no loss, no norm of a gradient, no record ids."""

    judges_under_attack: ClassVar[bool] = False
    """True if validations have the objective's criterion under attack as well, and that one decides."""

    def __init__(self, context: MethodContext) -> None:
        self.context, self.model = context, context.model

    @classmethod  # noqa: B027 (most have nothing to refuse)
    def check(cls, config: Configuration, manifest: Manifest) -> None:
        """Raise UsageError for settings and data that the method does not go with; called before anything begins."""

    @property
    def judged(self) -> nn.Module:
        """Model that validations judge and checkpoints hand on: that which is trained, or an average of it."""
        return self.model

    def validation_terms(self, batch: LocalBatch) -> Terms:
        """Return the terms that validations take their means of, for at least one row; metrics may be added.

        A metric with `objectives.ATTACKED` before the name of the objective's criterion decides in place of that.
        """
        return terms_of(self.context.objective, self.judged, batch)

    @property
    def settled(self) -> bool:
        """False while the weights are not the result of the steps so far: no validation then, and all ranks agree."""
        return True

    def collect(self) -> None:  # noqa: B027 (most have the same state on all ranks)
        """Bring what a checkpoint needs of the other ranks to the one that writes; called by all before `state`."""

    def facts(self) -> dict[str, Any]:
        """Return what the method adds to the section `training` of summary.json, as plain values."""
        return {}

    def batches(self, position: int) -> Batches | None:
        """Return what training takes from a position on; None: every row in its order, as often as the manifest says.

        Called by all ranks.
        """
        return None

    @abstractmethod
    def step(self, batch: LocalBatch, step: int, scheduled: int | None = None) -> StepResult:
        """Learn from a global batch; called by all ranks together.

        `step` counts from 0 and seeds the random generators; `scheduled` is the step of the learning rate's schedule,
        if different.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return tensors and plain values alone, so that the state loads without trusting the file."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `state`."""

    @abstractmethod
    def broadcast(self) -> None:
        """Give all ranks the weights and the state of rank 0."""


def kind(name: str) -> type[Method]:
    """Return the class of a method by its kind."""
    return cast(type[Method], kinds.subclass("training.methods", name, Method))


def build(context: MethodContext) -> Method:
    """Build the method of `[method] kind`."""
    return kind(context.method.kind)(context)
