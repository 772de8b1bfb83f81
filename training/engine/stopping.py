"""Preemption: after a first SIGTERM, SIGUSR1 or Ctrl-C all ranks finish a step, write a checkpoint and end with 75.

A scheduler that takes the machine away sends one of these signals some seconds before it kills. A second SIGTERM or
Ctrl-C ends the process at once; a repeated SIGUSR1 means no more than the first, as several processes of a job may pass
one on. The ranks agree on the step in the loop, so it is enough that one of them gets the signal.
"""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from training.parallel.world import speaks

STATUS = 75
"""EX_TEMPFAIL of BSD's sysexits.h: nothing is wrong, try again later."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Stopped(Exception):
    """The signal came where there is no step to finish, and nothing to lose."""


class Preemption:
    """Handler of SIGNALS; a context manager, at most one per process, for its main thread.

    `grace` is the number of seconds after the first signal in which the process has to end; then it is ended, with 128
    and the number of the signal for a status.
    """

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self.requested: signal.Signals | None = None
        self.defers = False
        """True once there are steps: the signal is then noted for the loop, and before raises Stopped."""
        self._before: dict[signal.Signals, Any] = {}
        self._asked, self._over = threading.Event(), threading.Event()
        self._timer = threading.Thread(target=self._limit, name="grace", daemon=True)

    def __enter__(self) -> Self:
        global _in_force
        if _in_force is not None:
            raise RuntimeError("this process handles preemption already")
        _in_force = self
        self._timer.start()
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _in_force
        _in_force = None
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._over.set()
        self._asked.set()
        self._timer.join()

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.requested is not None:
            if number != signal.SIGUSR1:
                self._end(number, "at once by a second signal")
            return
        self.requested = signal.Signals(number)
        self._asked.set()
        if not self.defers:
            raise Stopped(f"stopped by {self.requested.name} before the first step: nothing is lost")
        if speaks():
            _say(
                f"{self.requested.name}: the training ends after this step, with a checkpoint, or {self.grace:g} s "
                "from now (train.grace); a second signal ends it at once"
            )

    def _limit(self) -> None:
        self._asked.wait()
        if not self._over.wait(self.grace) and self.requested is not None:
            self._end(self.requested, f"{self.grace:g} s after {self.requested.name} (train.grace)")

    def _end(self, number: int, why: str) -> None:
        _say(f"ended {why}; --resume goes on from the last checkpoint")
        os._exit(128 + number)


_in_force: Preemption | None = None


def requested() -> signal.Signals | None:
    """Return the signal by which this process was asked to stop; None if it was not."""
    return None if _in_force is None else _in_force.requested


def defer() -> None:
    """Leave it to the loop from now on to look for the signal."""
    if _in_force is not None:
        _in_force.defers = True


def told(step: int) -> str:
    """Say where a training was stopped and how it goes on."""
    by = requested()
    return (
        f"stopped by {'a signal to another rank' if by is None else by.name} after step {step:,}, whose checkpoint is "
        f"written: --resume goes on from there (status {STATUS})"
    )


def _say(message: str) -> None:
    # Not by print: the signal may have interrupted one.
    os.write(2, f"{message}\n".encode())
