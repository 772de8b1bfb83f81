"""The course of a training: `metrics.jsonl` and TensorBoard events."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from common.progress import say
from training.tracking.run_files import EVENTS, METRICS_FILE


class Metrics:
    """Writes entries to both places; made on rank 0 alone."""

    def __init__(self, run: Path, step: int) -> None:
        """`step` is where the training starts: later entries, of a run that got further before, are dropped."""
        from torch.utils.tensorboard import SummaryWriter

        path = run / METRICS_FILE
        kept = [e for e in read(run) if e["step"] <= step] if step else []
        if not step:
            shutil.rmtree(run / EVENTS, ignore_errors=True)
        self.failed = False
        # Unbuffered, so that a line is there as a whole or its error is known.
        self.file: IO[bytes] = path.open("wb", buffering=0)
        for entry in kept:
            self._line(entry)
        self.events = SummaryWriter(str(run / EVENTS), purge_step=step + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        with self._survived():
            self.events.close()

    def write(self, step: int, kind: str, **values: float | None) -> None:
        """An entry of `kind` train or validation: numbers by name, after `step` steps; None where there is none.

        What cannot be written (disk full) is left out, with a warning the first time.
        """
        with self._survived():
            self._line({"step": step, "kind": kind, **values})
        with self._survived():
            for name, value in values.items():
                if name not in ("epoch", "position") and value is not None:
                    self.events.add_scalar(f"{kind}/{name}", value, step)

    @contextmanager
    def _survived(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self.failed:
                say(
                    f"warning: metrics cannot be written ({error}); the training goes on, they will have gaps"
                )
            self.failed = True

    def _line(self, entry: dict[str, Any]) -> None:
        line, before = json.dumps(entry).encode() + b"\n", self.file.tell()
        try:
            if self.file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            # Half a line would hide all that follow.
            self.file.seek(before)
            self.file.truncate()
            raise


def read(run: Path) -> list[dict[str, Any]]:
    """The entries of a run's metrics.jsonl; a last line that an interruption cut off is left out."""
    path = run / METRICS_FILE
    if not path.exists():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries
