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


class Metrics:
    """Writer of entries to both places; used on rank 0 alone."""

    def __init__(self, run: Path, step: int) -> None:
        """Open the files at `step`, where the training starts; drop the later entries of an earlier run."""
        from torch.utils.tensorboard import SummaryWriter

        self.path = run / METRICS_FILE
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
        """Write an entry of `kind` train or validation: numbers by name, after `step` steps; None for missing ones.

        Numbers that are not finite, and thus no JSON, count as missing.

        If it cannot be written (disk full), it is left out, with a warning the first time.
        """
        values = {
            name: value if value is not None and math.isfinite(value) else None
            for name, value in values.items()
        }
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
                log(
                    f"warning: metrics cannot be written ({error}); the training goes on, they will have gaps"
                )
            self.failed = True


def read(run: Path) -> list[dict[str, Any]]:
    """Read the entries of a run's metrics.jsonl; a last line cut off by an interruption is left out."""
    return list(json_lines.read(str(run / METRICS_FILE)))
