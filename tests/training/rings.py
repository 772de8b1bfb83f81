"""Rings of threads: communicators that exchange within one process, and note what each of them is given to send."""

import copy
import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import nn

from training.parallel.communicator import Communicator
from training.parallel.world import World

Result = TypeVar("Result")


class ThreadRing:
    """Place where the ranks of a ring leave their values for each other."""

    def __init__(self, ranks: int) -> None:
        self.values: list[Any] = [None] * ranks
        self.barrier = threading.Barrier(ranks, timeout=60)
        self.sent: list[Any] = []
        """Everything that any rank gave to a collective."""

    def all_of(self, rank: int, value: Any) -> list[Any]:
        """Return the values of all ranks."""
        self.values[rank] = copy.deepcopy(value)
        self.sent.append(self.values[rank])
        self.barrier.wait()
        found = copy.deepcopy(self.values)
        self.barrier.wait()
        return found


class ThreadCommunicator(Communicator):
    """One rank of a ring of threads."""

    def __init__(self, ring: ThreadRing, rank: int, ranks: int) -> None:
        self.ring, self.world = ring, World(rank, ranks)

    def begin_sum(self, tensor: torch.Tensor, name: str) -> Callable[[], torch.Tensor]:
        parts = self.ring.all_of(self.world.rank, tensor.clone())
        return lambda: tensor.copy_(functools.reduce(torch.add, parts))

    def sum_integers(self, values: Sequence[int]) -> list[int]:
        return [sum(column) % 2**64 for column in zip(*self.gather(list(values)), strict=True)]

    def sum_floats(self, values: Sequence[float]) -> list[float]:
        return [sum(column) for column in zip(*self.gather(list(values)), strict=True)]

    def broadcast_parameters(self, model: nn.Module) -> None:
        model.load_state_dict(self.broadcast_from(0, copy.deepcopy(model.state_dict())))

    def gather(self, value: Any) -> list[Any]:
        return self.ring.all_of(self.world.rank, value)

    def broadcast_from(self, rank: int, value: Any) -> Any:
        return self.ring.all_of(self.world.rank, value)[rank]


def together(ranks: int, work: Callable[[Communicator], Result]) -> tuple[list[Result], list[Any]]:
    """Run `work` on each rank of a ring; return the results by rank, and what they sent."""
    ring = ThreadRing(ranks)
    with ThreadPoolExecutor(ranks) as pool:
        found = list(pool.map(lambda rank: work(ThreadCommunicator(ring, rank, ranks)), range(ranks)))
    return found, ring.sent
