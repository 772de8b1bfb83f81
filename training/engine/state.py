"""What a training works with, and how far it has come."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from common import progress
from schemas.config import Configuration
from schemas.manifest import Manifest
from training.input.proof import Proof
from training.methods import Method
from training.objectives import Objective
from training.parallel.communicator import Communicator


@dataclass
class TrainState:
    """How far a training has come."""

    step: int = 0
    position: int = 0
    """Rows taken by all ranks together since the start."""
    proof: Proof = field(default_factory=Proof)
    """Of the epoch under way: this rank's part, after a resume on rank 0 that of all ranks so far."""
    loss: torch.Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.float64))
    """Sums of losses and weights since the last entry of the metrics; shared out like the proof."""
    validation: list[dict[str, float]] = field(default_factory=list)
    """By completed epoch: step, epoch, loss, and the metrics of the objective."""
    skipped: int = 0
    """Batches without a finite gradient."""
    origin: dict[str, Any] = field(default_factory=lambda: {"step": 0})
    """Where a training on other data was taken up: its last step, and its manifest_root and chain."""
    seconds: float = 0.0
    """Spent in earlier processes of this run."""
    seconds_waited: float = 0.0
    seconds_held: float = 0.0
    """Seconds in which this process was blocked on checkpointing."""
    failed_saves: int = 0

    @property
    def validated(self) -> bool:
        """Whether a validation came with the last step."""
        return bool(self.validation) and self.validation[-1]["step"] == self.step


@dataclass(frozen=True)
class TrainContext:
    """All that the loop works with."""

    config: Configuration
    manifest: Manifest
    run: Path
    communicator: Communicator
    device: torch.device
    model: torch.nn.Module
    objective: Objective
    method: Method
    log: Callable[[str], None] = progress.log

    @property
    def rows(self) -> int:
        """Rows of an epoch, each as often as the class balance takes it."""
        return self.manifest.splits["train"].rows_taken

    @property
    def steps_of_an_epoch(self) -> int:
        """Global batches."""
        return -(-self.rows // self.config.train.batch)

    @property
    def total_rows(self) -> int:
        """Rows of all epochs."""
        return self.rows * self.config.train.epochs
