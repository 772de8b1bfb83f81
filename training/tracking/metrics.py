"""Metrics over the course of a training: `metrics.jsonl` and TensorBoard events."""

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from common import json_lines
from common.progress import log
from training.tracking.run_files import EVENTS, METRICS_FILE

BESIDE_RESULTS = frozenset({"step", "kind", "epoch", "position"})
"""Keys of a validation that are no results of it."""


class Metrics:
    """Writer of entries to both places; used on rank 0 alone."""

    def __init__(self, run: Path, step: int) -> None:
        """Open the files at `step`, where the training starts; drop the later entries of an earlier run."""
        from torch.utils.tensorboard import SummaryWriter

        self.path = run / METRICS_FILE
        self.failed = False
        self.events: SummaryWriter | None = None
        with self._survived():
            if step:
                json_lines.keep(str(self.path), lambda entry: bool(entry["step"] <= step))
            else:
                self.path.unlink(missing_ok=True)
                shutil.rmtree(run / EVENTS, ignore_errors=True)
            self.events = SummaryWriter(str(run / EVENTS), purge_step=step + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._survived():
            if self.events is not None:
                self.events.close()

    def write(self, step: int, kind: str, **values: float | None) -> None:
        """Write an entry of `kind` train or validation: numbers by name, after `step` steps; None for missing ones.

        Numbers that are not finite count as missing, because JSON has none: they become null.

        If it cannot be written (disk full), it is left out, with a warning the first time.
        """
        values = {
            name: value if value is not None and math.isfinite(value) else None
            for name, value in values.items()
        }
        with self._survived():
            line = json.dumps({"step": step, "kind": kind, **values}, allow_nan=False).encode()
            json_lines.append(str(self.path), line, durable=False)
        with self._survived():
            for name, value in values.items():
                if self.events is not None and name not in ("epoch", "position") and value is not None:
                    self.events.add_scalar(f"{kind}/{name}", value, step)

    @contextmanager
    def _survived(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self.failed:
                log(
                    f"warning: metrics cannot be written ({error}); the training goes on, they will have gaps"
                )
            self.failed = True


def read(run: Path) -> list[dict[str, Any]]:
    """Read the entries of a run's metrics.jsonl; a damaged line is skipped and named in the log, and a last one that an
    interruption cut off left out.
    """
    return json_lines.undamaged(str(run / METRICS_FILE), _entry)


def _entry(line: bytes) -> dict[str, Any]:
    # NaN and Infinity are no JSON, but an older file may hold them.
    entry: dict[str, Any] = json.loads(line, parse_constant=lambda _: None)
    return {**entry, "step": int(entry["step"]), "kind": str(entry["kind"])}
