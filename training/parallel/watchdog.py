"""Watchdog that ends a rank without progress, so that the others and the launcher see it die and do not wait forever.

A thread of the rank watches the rank's work, and a small process beside it (`training.parallel.watchdog_process`)
watches the thread, because a process that is stopped (SIGSTOP), or never lets go of the interpreter, cannot watch
itself.
"""

import faulthandler
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from training.parallel import watchdog_process
from training.parallel.watchdog_process import Stopwatch

LAST_WAIT = 1.0
"""Seconds for the process beside a rank to end before the rank."""
PATIENCE = 3
"""Factor on the limit for a rank that waits for others: the rank that it waits for should be ended first."""


class Watchdog:
    """Watchdog that ends this process by SIGKILL if it makes no progress; a context manager, at most one per process.

    `seconds` is the limit for a rank's own work between two calls of `step`; leaving `waiting` is progress too. 0
    disables it.
    """

    def __init__(self, seconds: float, rank: int) -> None:
        self.seconds, self.rank = seconds, rank
        self._lock = threading.Lock()
        self._stopwatch = Stopwatch()
        self._limit, self._is_waiting = seconds, False
        self._ended = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        global _in_force
        if _in_force is not None:
            raise RuntimeError("this process has a watchdog already")
        _in_force = self
        if self.seconds:
            # Isolated and without site-packages: it starts in some hundredths of a second and stays small.
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", watchdog_process.__file__),
                    *(str(self.rank), str(os.getpid()), repr(self.seconds)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
            )
            self._stopwatch.reset()
            self._thread = threading.Thread(target=self._beat, name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _in_force
        _in_force = None
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self._process is not None and self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            # Once horovodrun has told it to end the rank, it ends after the rank.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(LAST_WAIT)

    def step(self) -> None:
        """Record progress."""
        with self._lock:
            self._stopwatch.reset()

    @contextmanager
    def waiting(self, at_most: float | None = None) -> Iterator[None]:
        """Allow for a wait for other ranks, which is not this rank's fault, of up to `at_most` seconds.

        After that, by default PATIENCE times the limit, the rank is ended all the same.
        """
        before = self._limit, self._is_waiting
        self._set(PATIENCE * self.seconds if at_most is None else at_most, True)
        try:
            yield
        finally:
            self._set(*before)

    def _set(self, limit: float, is_waiting: bool) -> None:
        with self._lock:
            self._limit, self._is_waiting = limit, is_waiting
            self._stopwatch.reset()

    def _beat(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        while not self._ended.wait(watchdog_process.TICK):
            with self._lock:
                late = self._stopwatch.advance() > self._limit
                limit, is_waiting = self._limit, self._is_waiting
            if late:
                self._end(limit, is_waiting)
            with suppress(BrokenPipeError):
                self._process.stdin.write(b"c" if is_waiting else b"w")
                self._process.stdin.flush()

    def _end(self, limit: float, is_waiting: bool) -> None:
        what = "waited for the other ranks" if is_waiting else "worked"
        faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
        print(
            f"watchdog: rank {self.rank} (process {os.getpid()}) {what} for {limit:g} seconds without a step "
            "(train.watchdog); the stacks of its threads stand above, and it is ended",
            file=sys.__stderr__,
            flush=True,
        )
        os.kill(os.getpid(), signal.SIGKILL)


_in_force: Watchdog | None = None


def step() -> None:
    """Report progress to the watchdog of this process, if there is one."""
    if _in_force is not None:
        _in_force.step()


@contextmanager
def waiting(at_most: float | None = None) -> Iterator[None]:
    """Report to the watchdog of this process, if any, that the rank waits for others; see Watchdog.waiting."""
    if _in_force is None:
        yield
        return
    with _in_force.waiting(at_most):
        yield
