"""Process beside a rank that ends it when its heartbeats stop: a stopped process cannot watch itself.

Started by `training.parallel.watchdog` with the heartbeats on standard input, one byte each, and with rank, process id
and limit in seconds as arguments. It imports four small modules of the standard library, and always ends with the rank.

It also passes SIGTERM on to the rank, as SIGUSR1: horovodrun sends SIGTERM to the children of a rank alone, and stops
the rank as soon as none of them is left. So after that signal this process stays until the rank is gone. torchrun sends
SIGTERM to the rank as well, which would take a second signal for an order to end at once.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Callable

TICK = 0.5
"""Seconds between two looks at the clock."""
GRACE = 2
"""Ticks for a last heartbeat, if rank and watchdog were stopped and woken together."""


class Stopwatch:
    """Seconds since the last reset in which this process itself was running.

    After a tick that took far too long, this process must have been stopped as well (Ctrl-Z and fg, a suspended
    machine). Such a tick proves nothing about the watched process, so no tick counts for more than two.
    """

    def __init__(self, tick: float = TICK, clock: Callable[[], float] = time.monotonic) -> None:
        self.tick, self.clock = tick, clock
        self.seconds, self.last = 0.0, clock()

    def advance(self) -> float:
        """Advance by one tick and return the seconds so far; call it every tick."""
        now = self.clock()
        self.seconds += min(now - self.last, 2 * self.tick)
        self.last = now
        return self.seconds

    def reset(self) -> None:
        self.seconds, self.last = 0.0, self.clock()


class Messenger:
    """Handler of SIGTERM that passes the first one on."""

    def __init__(self, process: int) -> None:
        self.process = process
        self.has_come = False

    def __call__(self, *_: object) -> None:
        # Still the parent, so the process id cannot have passed to another process.
        if not self.has_come and os.getppid() == self.process:
            os.kill(self.process, signal.SIGUSR1)
        self.has_come = True


def watch(rank: str, process: int, limit: float, messenger: Messenger | None = None) -> None:
    """Return when the rank has ended, or needs no watch any more; end it if no heartbeat came for `limit` seconds."""
    stopwatch, doing = Stopwatch(), b"w"
    while os.getppid() == process:
        if select.select([0], [], [], TICK)[0]:
            beats = os.read(0, 4096)
            if not beats:
                while messenger is not None and messenger.has_come and os.getppid() == process:
                    time.sleep(TICK / 10)
                return
            doing = beats[-1:]
            stopwatch.reset()
        elif stopwatch.advance() > limit + GRACE * TICK:
            activity = "waited for the other ranks" if doing == b"c" else "worked"
            print(
                f"watchdog: rank {rank} (process {process}) gave no sign of life for {limit:g} seconds "
                f"(train.watchdog), when last heard it {activity}; it is stopped or stuck, and is ended",
                file=sys.stderr,
                flush=True,
            )
            # Still the parent, so the process id cannot have passed to another process.
            if os.getppid() == process:
                os.kill(process, signal.SIGKILL)
            return


if __name__ == "__main__":
    # Ctrl-C and a scheduler's SIGUSR1 are meant for the rank, and this process ends when the rank does.
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    passed_on = Messenger(int(sys.argv[2]))
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        signal.signal(signal.SIGTERM, passed_on)
    watch(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), passed_on)
