"""Which of how many processes this is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class World:
    """Which of how many processes this is; a value that is passed in."""

    rank: int
    size: int

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank {self.rank} does not lie in a world of {self.size}")
