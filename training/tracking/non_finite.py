"""`non_finite.jsonl`: batches with a non-finite loss or gradient, and the records in them."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from common import files, json_lines
from common.progress import log
from training.tracking.run_files import NON_FINITE_FILE


@dataclass(frozen=True)
class NonFiniteBatch:
    """A global batch with a non-finite loss or gradient."""

    step: int
    """Number of the step, counted from 1."""
    epoch: int
    """Number of the epoch, counted from 1."""
    position: int
    """Position of the first row in the epoch."""
    record_ids: list[str]
    """Record ids in the order of the ranks."""
    documents: list[list[dict[str, Any]]] = field(default_factory=list)
    """Parts of records in each row, where rows are packed."""

    @property
    def records(self) -> list[str]:
        """Ids of the records in the batch, each once."""
        parts = [part["record_id"] for row in self.documents for part in row]
        return list(dict.fromkeys(parts or self.record_ids))


def write(run: Path, batch: NonFiniteBatch) -> None:
    """Append a line to the run's file; where that fails (disk full), log a warning."""
    document = {key: value for key, value in asdict(batch).items() if key != "documents" or value}
    line = json.dumps(document, ensure_ascii=False).encode()
    try:
        json_lines.append(str(run / NON_FINITE_FILE), line, durable=False)
    except OSError as error:
        log(f"warning: the record ids of step {batch.step:,} could not be written: {files.told(error)}")


def read(run: Path) -> list[NonFiniteBatch]:
    """Read the batches; a damaged line is skipped and named in the log, a last one that was cut off left out."""
    return json_lines.undamaged(str(run / NON_FINITE_FILE), lambda line: NonFiniteBatch(**json.loads(line)))


def cut_back(run: Path, step: int) -> None:
    """Drop the batches after a step, from which the training continues."""
    json_lines.keep(str(run / NON_FINITE_FILE), lambda entry: bool(entry["step"] <= step))
