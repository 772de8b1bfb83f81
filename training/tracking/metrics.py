"""The course of a training: `metrics.jsonl`, TensorBoard events, and the proof of which rows were read, how often."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from common import json_lines
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

        self.path = run / NAME
        if step:
            json_lines.keep(str(self.path), lambda entry: bool(entry["step"] <= step))
        else:
            self.path.unlink(missing_ok=True)
            shutil.rmtree(run / EVENTS, ignore_errors=True)
        self.failed = False
        self.events = SummaryWriter(str(run / EVENTS), purge_step=step + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._survived():
            self.events.close()

    def write(self, step: int, kind: str, **values: float | None) -> None:
        """An entry of `kind` train or validation: numbers by name, after `step` steps; None where there is none.

        What cannot be written (disk full) is left out, with a warning the first time.
        """
        with self._survived():
            line = json.dumps({"step": step, "kind": kind, **values}).encode()
            json_lines.append(str(self.path), line, durable=False)
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


def read(run: Path) -> list[dict[str, Any]]:
    """The entries of a run's metrics.jsonl; a last line that an interruption cut off is left out."""
    return list(json_lines.read(str(run / NAME)))


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
