"""Sums in shared memory over forked ranks: values, memory that grows or does not suffice, ranks that leave or die."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from training.parallel import shared_memory
from training.parallel.shared_memory import SharedSums
from training.parallel.world import World

FORK = multiprocessing.get_context("fork")
RANKS = 3
SECONDS = 60
# The threads of the parent are those of libraries, which the ranks do not use.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


class Broken(RuntimeError):
    pass


class Piped:
    """Back end of forked ranks: rank 0 has a pipe to each of the others."""

    name, failure = "piped", Broken

    def __init__(self, rank: int, pipes: list[Connection]) -> None:
        self.world, self.local_rank, self.local_size, self.pipes = World(rank, RANKS), rank, RANKS, pipes

    def gather_objects(self, value: Any) -> list[Any]:
        if self.world.rank:
            self.pipes[0].send(value)
            return list(self.pipes[0].recv())
        values = [value, *(pipe.recv() for pipe in self.pipes)]
        for pipe in self.pipes:
            pipe.send(values)
        return values

    def broadcast_object(self, value: Any, root: int) -> Any:
        return self.gather_objects(value)[root]


def together(work: Callable[[SharedSums], Any]) -> list[Any]:
    """Run `work` in forked ranks; return the results by rank, None of one that died."""
    ends = [FORK.Pipe() for _ in range(1, RANKS)]
    pipes = [[ours for ours, _ in ends], *([theirs] for _, theirs in ends)]
    outlets = [FORK.Pipe(duplex=False) for _ in range(RANKS)]

    def begin(rank: int) -> None:
        torch.set_num_threads(1)
        sums = SharedSums.open(Piped(rank, pipes[rank]))  # type: ignore[arg-type]
        assert sums is not None
        outlets[rank][1].send(work(sums))

    processes = [FORK.Process(target=begin, args=(rank,)) for rank in range(RANKS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(SECONDS)
        process.kill()
    return [inlet.recv() if inlet.poll() else None for inlet, _ in outlets]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    return tmp_path


def own(sums: SharedSums, size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.arange(size) % 97 + 100 * sums.backend.world.rank).to(dtype)


def test_sums_are_exact_in_memory_that_grows_and_leave_no_file(folder: Path) -> None:
    def work(sums: SharedSums) -> list[bool]:
        found = []
        for number, size in enumerate((1, 5000, 7, 70_000, 70_001)):
            dtype = (torch.float32, torch.int64, torch.float16)[number % 3]
            first, other = own(sums, size, dtype), torch.ones(2, dtype=torch.float64)
            begun = sums.begin(first, f"a.{size}"), sums.begin(other, "b")
            assert begun[0] is not None
            assert begun[1] is not None
            found.append(begun[1]().tolist() == [RANKS, RANKS])
            expected = (3 * (torch.arange(size) % 97) + 300).to(dtype)
            found.append(begun[0]() is first and first.equal(expected))
        return found

    assert together(work) == [[True] * 10] * RANKS
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("how", ["leaves", "dies"])
def test_a_rank_that_goes_is_named_to_those_that_wait_for_it(how: str) -> None:
    def work(sums: SharedSums) -> str:
        for step in range(3):
            if (sums.backend.world.rank, step) == (1, 2):
                if how == "dies":
                    os.kill(os.getpid(), signal.SIGKILL)
                sums.close()
                return "gone"
            begun = sums.begin(own(sums, 10), "a")
            assert begun is not None
            try:
                begun()
            except Broken as broken:
                return f"{step}: {broken}"
        return "never told"

    found = together(work)
    assert found == ["2: rank 1 has gone", "gone" if how == "leaves" else None, "2: rank 1 has gone"]


def test_a_sum_that_memory_does_not_suffice_for_is_left_to_the_library_by_all(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    allocate = os.posix_fallocate

    def limited(file: int, first: int, size: int) -> None:
        if size > 1 << 20:
            raise OSError(28, "No space left on device")
        allocate(file, first, size)

    monkeypatch.setattr(os, "posix_fallocate", limited)

    def work(sums: SharedSums) -> list[bool]:
        return [
            sums.begin(own(sums, size), name) is None for name, size in (("a", 1 << 20), ("b", 10), ("a", 10))
        ]

    assert together(work) == [[True, False, True]] * RANKS
    assert list(folder.iterdir()) == []


def test_processors_that_may_exchange_writes_use_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert SharedSums.open(Piped(0, [])) is None  # type: ignore[arg-type]
