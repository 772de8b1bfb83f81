"""Rank of a process and number of ranks, and what the launchers say about them."""

import os
from dataclasses import dataclass

from common.errors import UsageError

UNDER_HOROVODRUN = "HOROVOD_GLOO_RENDEZVOUS_ADDR"
"""Variable of the environment of all processes that horovodrun starts."""


@dataclass(frozen=True)
class World:
    """Rank of a process and number of ranks, as a value to pass around."""

    rank: int
    size: int

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank {self.rank} does not lie in a world of {self.size}")


def launched(name: str, default: int) -> int:
    """Return a number that torchrun has put into the environment: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE."""
    return int(os.environ.get(name, default))


def speaks() -> bool:
    """Return True in a process that speaks to the user before it has joined the others."""
    return int(os.environ.get("HOROVOD_RANK") or launched("RANK", 0)) == 0


def is_elastic() -> bool:
    """Return True in a process that horovodrun started for elastic training."""
    return os.environ.get("HOROVOD_ELASTIC") == "1"


def check_launcher(backend: str) -> None:
    """Raise UsageError if this process is one of several that the launcher of the other back end started."""
    if backend == "ddp" and UNDER_HOROVODRUN in os.environ:
        raise UsageError(
            'train.backend = "ddp" does not run under horovodrun: start it by torchrun --standalone --nproc-per-node N '
            '-m -- training.train …, or set train.backend = "horovod"'
        )
    if backend == "horovod" and UNDER_HOROVODRUN not in os.environ and launched("WORLD_SIZE", 1) > 1:
        raise UsageError(
            'train.backend = "horovod" does not run under torchrun (WORLD_SIZE is in the environment): start it by '
            'horovodrun -np N python -m training.train …, or set train.backend = "ddp"'
        )
    if backend == "ddp" and launched("WORLD_SIZE", 1) > 1 and "MASTER_ADDR" not in os.environ:
        raise UsageError(
            'WORLD_SIZE is in the environment, but not MASTER_ADDR: start train.backend = "ddp" by torchrun'
        )
