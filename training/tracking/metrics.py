"""The course of a training: `metrics.jsonl`, TensorBoard events, and the proof of which rows were read, how often."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from common.errors import CheckError
from common.progress import say
from provenance.keys import add_sums, key_sums
from schemas.manifest import SplitContent
from training.parallel.communicator import Ring

NAME = "metrics.jsonl"
EVENTS = "tensorboard"


class Metrics:
    """Writes entries to both places; made on rank 0 alone."""

    def __init__(self, run: Path, step: int) -> None:
        """`step` is where the training starts: later entries, of a run that got further before, are dropped."""
        from torch.utils.tensorboard import SummaryWriter

        path = run / NAME
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
    path = run / NAME
    if not path.exists():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


class Proof:
    """Counts rows and sums their keys, to show that a split was read in full, each row exactly as often as the
    manifest says: once, unless its class is oversampled.
    """

    def __init__(self, count: int = 0, sums: tuple[int, int] = (0, 0)) -> None:
        self.count, self.sums = count, sums

    def add(self, keys: npt.NDArray[np.uint64]) -> None:
        """Adds rows by their keys, (rows, 2) uint64."""
        self.count += len(keys)
        self.sums = add_sums([self.sums, key_sums(keys)])

    def over_all_ranks(self, ring: Ring) -> "Proof":
        """The sums of all ranks; called by all of them."""
        count, first, second = ring.sum_integers([self.count, *self.sums])
        return Proof(count, (first, second))

    def check(self, expected: SplitContent, what: str) -> None:
        """Raises CheckError when these are not exactly the rows that the manifest tells of, as often as it tells."""
        if self.count != expected.rows_taken or self.sums != tuple(expected.key_sums_taken):
            raise CheckError(
                f"{what} read {self.count:,} rows with the key sums {self.sums} where the manifest has "
                f"{expected.rows_taken:,} with {tuple(expected.key_sums_taken)}: "
                "rows were lost or repeated; please report it with the configuration"
            )
