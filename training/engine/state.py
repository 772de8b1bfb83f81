"""Start-up arguments, context and progress of a training."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from common import progress
from schemas.config import Configuration
from schemas.manifest import Manifest
from training.checkpoints.starting import Start
from training.input.proof import Proof
from training.methods import Method
from training.objectives import Objective
from training.parallel.communicator import Communicator
from training.silos.loading import Loader, loader_of, order_of


@dataclass(frozen=True)
class Launch:
    """Start-up arguments of a process of a training."""

    config: Configuration
    manifest: Manifest
    location: str
    folder: Path
    arguments: argparse.Namespace
    given: list[str]


@dataclass
class TrainState:
    """Progress of a training."""

    step: int = 0
    position: int = 0
    """Rows taken by all ranks together since the start."""
    proof: Proof = field(default_factory=Proof)
    """Proof of the current epoch: this rank's part; after a resume, that of all ranks so far on rank 0."""
    loss: torch.Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.float64))
    """Sums of losses and weights since the last entry of the metrics; split between ranks like the proof."""
    validation: list[dict[str, float]] = field(default_factory=list)
    """Validation of each completed epoch: step, epoch, loss, and the metrics of the objective."""
    skipped: int = 0
    """Skipped batches, whose gradient was not finite."""
    overflows: int = 0
    """Batches skipped while the scale of `train.precision = "fp16"` was too high."""
    origin: dict[str, Any] = field(default_factory=lambda: {"step": 0})
    """Starting point in a training on other data: its last step, and its manifest_root and chain; and `started_from`,
    the SHA-256 of the checkpoint of another run that gave the first weights.
    """
    seconds: float = 0.0
    """Seconds spent in earlier processes of this run."""
    seconds_waited: float = 0.0
    seconds_held: float = 0.0
    """Seconds in which this process was blocked on checkpointing."""
    failed_saves: int = 0

    @property
    def validated(self) -> bool:
        """True if a validation came with the last step."""
        return bool(self.validation) and self.validation[-1]["step"] == self.step


@dataclass(frozen=True)
class TrainContext:
    """Everything that the loop works with."""

    config: Configuration
    manifest: Manifest
    run: Path
    communicator: Communicator
    device: torch.device
    model: torch.nn.Module
    objective: Objective
    method: Method
    start: Start | None = None
    """Where the weights came from, on the rank that writes, if this training begins with those of another run."""
    log: Callable[[str], None] = progress.log

    @property
    def rows(self) -> int:
        """Rows of an epoch, each counted as often as the class balance takes it."""
        return self.manifest.splits["train"].epoch_rows

    @property
    def steps_of_an_epoch(self) -> int:
        """Global batches of an epoch."""
        settings = self.config.train
        return order_of(self.manifest, self.config.method, settings).steps(settings.batch)

    def loader(self, epochs: int = 1, position: int = 0, **given: Any) -> Loader:
        """Return this rank's batches of training; arguments as for `training.silos.loading.loader_of`."""
        config, world = self.config, self.communicator.world
        given = {"options": config.storage, **given}
        return loader_of(self.manifest, config.method, config.train, world, epochs, position, **given)

    @property
    def total_rows(self) -> int:
        """Rows of all epochs together."""
        return self.rows * self.config.train.epochs
