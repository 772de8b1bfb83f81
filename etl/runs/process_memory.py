"""Memory of a process and its descendants: of the driver, its Java machine, and local Python workers."""

import threading
import time
from types import TracebackType

import psutil

SAMPLE_SECONDS = 1.0
SHARE_SECONDS = 10.0
"""Seconds after which shared memory is divided again."""
GROWTH = 1.05
"""Growth of the resident memory after which it is divided at once."""


class PeakMemory:
    """Sampler of the memory of this process and its descendants until the `with` block ends; `peak` is in bytes.

    Dividing shared memory takes the kernel 20 ms for each gigabyte, counting resident pages microseconds. So the
    first is done where the second suggests a peak, every SHARE_SECONDS, at the beginning and the end.
    """

    def __init__(self, seconds: float = SAMPLE_SECONDS) -> None:
        self.peak = 0
        self._seconds = seconds
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._sampler.join()

    def _sample(self) -> None:
        highest, due, last = 0.0, 0.0, False
        while not last:
            resident = tree_bytes(shared_divided=False)
            if resident > highest * GROWTH or time.monotonic() >= due:
                self.peak = max(self.peak, tree_bytes())
                highest, due = max(highest, resident), time.monotonic() + SHARE_SECONDS
            last = self._ended.wait(self._seconds)
        self.peak = max(self.peak, tree_bytes())


def tree_bytes(process: int | None = None, shared_divided: bool = True) -> int:
    """Return the memory of a process (by default this one) and its descendants.

    Shared memory is divided among its processes, or counts once for each of them.
    """
    total = 0
    try:
        root = psutil.Process(process)
        running = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for one in running:
        try:
            total += one.memory_full_info().pss if shared_divided else one.memory_info().rss
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue  # it has ended meanwhile
    return total
