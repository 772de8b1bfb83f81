"""Rank of a process and number of ranks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class World:
    """Rank of a process and number of ranks, as a value to pass around."""

    rank: int
    size: int

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank {self.rank} does not lie in a world of {self.size}")
