"""Sums of CPU tensors through memory that all ranks of one machine share.

A library's allreduce costs a thread that talks to the other ranks; here a rank writes, waits and reads. Each rank sums
a part of the elements of all ranks, in the order of the ranks, and copies the parts of the others. The memory belongs
to files in /dev/shm that have no name once all ranks have opened them, so that nothing is left behind.
"""

import fcntl
import mmap
import os
import platform
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.parallel import watchdog
from training.parallel.backends import Backend
from training.parallel.world import is_elastic

FOLDER = Path("/dev/shm")
LINE = 64
"""Bytes of a line of a processor's cache; counters of different ranks share none."""
BEGUN, SUMMED, READ = range(3)
"""Counters of a rank: sums that it has written its part to, has summed its elements of, has read to the end."""
ORDERED = ("x86_64", "AMD64", "i686")
"""Processors that others see write in the order of the program: a counter then never comes before what it counts."""
PATIENCE = 20
"""Looks at the counters before the first sleep; then sleeps, some of which look whether the others still live."""


class SharedSums:
    """Sums of the ranks of one machine, which all ranks begin in the same order."""

    def __init__(self, backend: Backend, alive: int) -> None:
        """Take over from `open`; `alive` is the file in which each rank holds a lock on a byte of its own."""
        self.backend, self.world, self.alive = backend, backend.world, alive
        self.slots: dict[str, Slot | None] = {}
        """By name of the sums; None where the memory does not suffice."""

    @classmethod
    def open(cls, backend: Backend) -> "SharedSums | None":
        """Return sums for ranks that all are on this machine; None where they are not, or cannot share memory.

        None in elastic training too: only the library can tell that the ring has broken, and form it again.
        """
        world = backend.world
        if world.size == 1 or backend.local_size != world.size or is_elastic():
            return None
        if platform.machine() not in ORDERED:
            return None
        alive = _shared(backend, world.size)
        if alive is None:
            return None
        fcntl.lockf(alive, fcntl.LOCK_EX, 1, world.rank)
        backend.gather_objects(None)  # from here on an unlocked byte tells that its rank has gone
        return cls(backend, alive)

    def close(self) -> None:
        """Let the others know that this rank takes no part any more."""
        os.close(self.alive)

    def begin(self, tensor: Tensor, name: str) -> Callable[[], Tensor] | None:
        """Begin to sum a contiguous tensor, in place, as `Backend.begin_sum`; None where that has to do it."""
        if tensor.device.type != "cpu" or not tensor.numel():
            return None
        kind = name.partition(".")[0]  # what follows is the size
        slot = self.slots.get(kind)
        if kind not in self.slots or (slot is not None and slot.capacity < tensor.nbytes):
            # All ranks come here at the same sum, with the same size.
            slot = self.slots[kind] = self._slot(tensor.nbytes)
        return None if slot is None else slot.begin(tensor)

    def _slot(self, size: int) -> "Slot | None":
        capacity = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        file = _shared(self.backend, Slot.size(self.world.size, capacity))
        return None if file is None else Slot(self, file, capacity)

    def wait(self, is_done: Callable[[], bool]) -> None:
        """Wait for the other ranks. Raises the backend's failure if one of them has gone."""
        if any(is_done() for _ in range(PATIENCE)):
            return
        pause, looks = 0.00002, 0
        with watchdog.waiting():
            while not is_done():
                time.sleep(pause)
                pause, looks = min(2 * pause, 0.0002), looks + 1
                if looks % 50 == 0 and (gone := self._gone()) is not None and not is_done():
                    raise self.backend.failure(f"rank {gone} has gone")

    def _gone(self) -> int | None:
        """Return a rank whose process has ended or left, if there is one."""
        for rank in range(self.world.size):
            if rank != self.world.rank:
                with suppress(BlockingIOError, PermissionError):  # it lives
                    fcntl.lockf(self.alive, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, rank)
                    fcntl.lockf(self.alive, fcntl.LOCK_UN, 1, rank)
                    return rank
        return None


class Slot:
    """Memory for sums of one name: counters of all ranks, then a part of `capacity` bytes for each."""

    def __init__(self, sums: SharedSums, file: int, capacity: int) -> None:
        self.sums, self.capacity, self.number = sums, capacity, 0
        self.ranks = sums.world.size
        self.memory = mmap.mmap(file, self.size(self.ranks, capacity))
        os.close(file)
        lines = np.frombuffer(self.memory, np.int64, 3 * self.ranks * LINE // 8)
        self.counters = lines.reshape(3, self.ranks, LINE // 8)[:, :, 0]

    @staticmethod
    def size(ranks: int, capacity: int) -> int:
        """Return the bytes that it takes."""
        return _data(ranks) + ranks * capacity

    def begin(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Write this rank's part; the function returned waits for the others and puts the sum into the tensor."""
        rank, count, dtype = self.sums.world.rank, tensor.numel(), tensor.dtype
        self.number += 1
        number = self.number
        self._all(READ, number - 1)
        parts = [
            torch.frombuffer(
                self.memory, dtype=dtype, count=count, offset=_data(self.ranks) + one * self.capacity
            )
            for one in range(self.ranks)
        ]
        parts[rank].copy_(tensor.view(-1))
        self.counters[BEGUN, rank] = number

        def finish() -> Tensor:
            self._all(BEGUN, number)
            own = slice(count * rank // self.ranks, count * (rank + 1) // self.ranks)
            for part in parts[1:]:
                parts[0][own].add_(part[own])
            self.counters[SUMMED, rank] = number
            self._all(SUMMED, number)
            tensor.view(-1).copy_(parts[0])
            self.counters[READ, rank] = number
            return tensor

        return finish

    def _all(self, counter: int, number: int) -> None:
        of_ranks = self.counters[counter]
        self.sums.wait(lambda: bool((of_ranks >= number).all()))


def _data(ranks: int) -> int:
    """Return where the ranks' parts begin."""
    return -(-3 * ranks * LINE // mmap.PAGESIZE) * mmap.PAGESIZE


def _shared(backend: Backend, size: int) -> int | None:
    """Open a file of zeros that all ranks share; None on all ranks where one of them cannot."""
    rank, opened, path = backend.world.rank, -1, None
    if rank == 0:
        with suppress(OSError):
            opened, path = tempfile.mkstemp(prefix="ringlake-", dir=FOLDER)
            os.posix_fallocate(opened, 0, size)
    made: Any = backend.broadcast_object((path, os.fstat(opened).st_size if opened >= 0 else 0), 0)
    if rank != 0 and made[0] is not None:
        with suppress(OSError):
            opened = os.open(made[0], os.O_RDWR | os.O_CLOEXEC)
    shared = made[1] >= size and all(backend.gather_objects(opened >= 0))
    if rank == 0 and path is not None:
        os.unlink(path)
    if not shared and opened >= 0:
        os.close(opened)
    return opened if shared else None
