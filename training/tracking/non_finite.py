"""`non_finite.jsonl`: the batches whose loss or gradient was not finite, and which records they held."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from common import json_lines
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
    line = json.dumps(asdict(batch), ensure_ascii=False).encode()
    json_lines.append(str(run / NON_FINITE_FILE), line, durable=False)


def read(run: Path) -> Iterator[NonFiniteBatch]:
    """What `write` wrote; a last line that an interruption cut off is left out."""
    return json_lines.read(str(run / NON_FINITE_FILE), lambda line: NonFiniteBatch(**json.loads(line)))


def cut_back(run: Path, step: int) -> None:
    """Drops what came after a step, from which the training goes on."""
    json_lines.keep(str(run / NON_FINITE_FILE), lambda entry: bool(entry["step"] <= step))
