"""Batches whose loss or gradient was not finite: which records they held."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from schemas.config import Configuration
from schemas.manifest import Manifest
from training.checkpoints.store import write_atomically
from training.input.batch_loader import Feed, LocalBatch
from training.parallel.communicator import Ring

NAME = "non_finite.jsonl"


@dataclass(frozen=True)
class Batch:
    """A global batch."""

    step: int
    """The number of the step, counted from 1."""
    epoch: int
    """Counted from 1."""
    position: int
    """Of its first row, in the epoch."""
    record_ids: list[str]
    """In the order of the ranks."""


def record_ids(
    batch: LocalBatch, first: int, manifest: Manifest, config: Configuration, ring: Ring
) -> list[str]:
    """The ids of all rows of a global batch, which begins at `first` in its epoch; called by all ranks.

    They are read again, because training does not read them otherwise.
    """
    rows = manifest.splits["train"].rows_taken
    mine: list[str] = []
    with Feed(
        manifest,
        "train",
        config.train,
        ring.world,
        epochs=batch.epoch + 1,
        position=batch.epoch * rows + first,
        options=config.storage,
        with_ids=True,
    ) as feed:
        again = next(feed)
        if again.record_ids is not None:
            mine = [str(one) for one in again.record_ids]
    return [one for part in ring.gather(mine) for one in part]


def write(run: Path, batch: Batch) -> None:
    """Appends a line to the run's `non_finite.jsonl`."""
    with (run / NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(batch), ensure_ascii=False) + "\n")


def read(run: Path) -> Iterator[Batch]:
    """What `write` wrote; a last line that an interruption cut off is left out."""
    path = run / NAME
    if path.exists():
        for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
            yield Batch(**json.loads(line))


def cut_back(run: Path, step: int) -> None:
    """Drops what came after a step, from which the training goes on."""
    if (run / NAME).exists():
        kept = [batch for batch in read(run) if batch.step <= step]
        content = "".join(json.dumps(asdict(batch), ensure_ascii=False) + "\n" for batch in kept)
        write_atomically(run / NAME, content.encode())
