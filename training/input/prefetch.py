"""Prefetching of items in a thread, with a bound on how many wait."""

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")
JOIN_SECONDS = 2.0
"""Seconds to wait for the thread at the end: a hanging source must not keep the process, so it is a daemon."""


class Prefetcher(Generic[Item]):
    """Iterator over the items of another iterator, run in a thread; that iterator's error comes out at its place."""

    def __init__(self, source: Iterator[Item], ahead: int, name: str) -> None:
        """Start the thread; at most `ahead` items wait while one more is being made."""
        self._source, self._ahead = source, ahead
        self._changed = threading.Condition()
        self._ready: deque[Item] = deque()
        self._error: Exception | None = None
        self._ended = self._closed = False
        self._thread = threading.Thread(target=self._fill, name=name, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        with self._changed:
            while not self._ready and not self._ended:
                self._changed.wait()
            if self._ready:
                item = self._ready.popleft()
                self._changed.notify_all()
                return item
        if self._error is not None:
            raise self._error
        raise StopIteration

    def close(self) -> None:
        """End the thread; whatever the source waits for has to be ended first."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        self._thread.join(JOIN_SECONDS)

    def _fill(self) -> None:
        try:
            for item in self._source:
                with self._changed:
                    while len(self._ready) >= self._ahead and not self._closed:
                        self._changed.wait()
                    if self._closed:
                        break
                    self._ready.append(item)
                    self._changed.notify_all()
        # Any error in this thread has to reach the one that waits for the items.
        except Exception as error:  # noqa: BLE001
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()
