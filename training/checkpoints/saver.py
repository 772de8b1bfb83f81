"""Checkpoint saving beside training: a step waits for a copy in memory, not for the disk."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from common import files
from common.errors import DataError
from training.checkpoints import store, tensors
from training.checkpoints.record import CheckpointState, Record


class Saver:
    """Writer of a run's checkpoints in a thread, one at a time; a context manager that waits for the last.

    A checkpoint that cannot be written (disk full, no permission) is reported to `log` and counted, and training
    continues.
    """

    def __init__(self, run: Path, keep: int, last: Record | None, log: Callable[[str], None]) -> None:
        """Start with `last`, the checkpoint that the next one follows in the chain."""
        self.run, self.keep, self.last, self.log = run, keep, last, log
        self.failures = 0
        self.seconds_held = 0.0
        """Seconds blocked on checkpointing."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._under_way: Future[Record] | None = None
        self._step = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wait()
        self._pool.shutdown()

    def save(self, state: CheckpointState, facts: Mapping[str, Any]) -> None:
        """Copy `state` and write it while training continues; wait if an earlier checkpoint is still being written.

        `facts` as for `store.save`.
        """
        began = time.perf_counter()
        self.wait()
        previous = None if self.last is None else self.last.chain
        self._step = state["step"]
        self._under_way = self._pool.submit(self._write, tensors.copied(state), previous, dict(facts))
        self.seconds_held += time.perf_counter() - began

    def wait(self) -> bool:
        """Wait until nothing is being written; return False if the last checkpoint could not be written."""
        if self._under_way is None:
            return True
        future, self._under_way = self._under_way, None
        try:
            self.last = future.result()
        except OSError as error:
            self.failures += 1
            last = (
                "there is none yet"
                if self.last is None
                else f"the last good one is of step {self.last.step:,}"
            )
            self.log(
                f"warning: the checkpoint of step {self._step:,} could not be written ({files.told(error)}); the "
                f"training goes on, {last}"
            )
            return False
        return True

    def _write(self, state: CheckpointState, previous: str | None, facts: dict[str, Any]) -> Record:
        record = store.save(self.run, state, previous, facts)
        try:
            store.prune(self.run, self.keep)
        except (OSError, DataError) as error:
            self.log(f"warning: older checkpoints in {self.run} could not be deleted: {error}")
        return record
