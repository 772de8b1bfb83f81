"""The memory of a process and all below it: of the driver, its Java machine, and local Python workers."""

import threading
from types import TracebackType

import psutil

SAMPLE_SECONDS = 1.0


class PeakMemory:
    """Samples the memory of this process and all below it until the `with` block ends; `peak` is in bytes."""

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
        last = False
        while not last:
            self.peak = max(self.peak, tree_bytes())
            last = self._ended.wait(self._seconds)
        self.peak = max(self.peak, tree_bytes())


def tree_bytes(process: int | None = None) -> int:
    """The memory of a process (by default this one) and all below it; what several share is divided among them."""
    total = 0
    try:
        root = psutil.Process(process)
        running = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for one in running:
        try:
            total += one.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue  # it has ended meanwhile
    return total
