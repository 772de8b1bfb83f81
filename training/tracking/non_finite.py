"""`non_finite.jsonl`: the batches whose loss or gradient was not finite, and which records they held."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from common import files
from training.tracking.run_files import NON_FINITE_FILE


@dataclass(frozen=True)
class NonFiniteBatch:
    """A global batch."""

    step: int
    """The number of the step, counted from 1."""
    epoch: int
    """Counted from 1."""
    position: int
    """Of its first row, in the epoch."""
    record_ids: list[str]
    """In the order of the ranks."""


def write(run: Path, batch: NonFiniteBatch) -> None:
    """Appends a line to the run's file."""
    with (run / NON_FINITE_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(batch), ensure_ascii=False) + "\n")


def read(run: Path) -> Iterator[NonFiniteBatch]:
    """What `write` wrote; a last line that an interruption cut off is left out."""
    path = run / NON_FINITE_FILE
    if path.exists():
        for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
            yield NonFiniteBatch(**json.loads(line))


def cut_back(run: Path, step: int) -> None:
    """Drops what came after a step, from which the training goes on."""
    if (run / NON_FINITE_FILE).exists():
        kept = [batch for batch in read(run) if batch.step <= step]
        content = "".join(json.dumps(asdict(batch), ensure_ascii=False) + "\n" for batch in kept)
        files.write(run / NON_FINITE_FILE, content.encode())
