"""Communicator of a process that learns by itself for a while, whatever ring it is in."""

from common.errors import UsageError
from schemas.settings import Train
from training.parallel.communicator import Communicator
from training.parallel.world import World


class RingOfOne(Communicator):
    """Communicator of a process alone, within a larger ring: nothing is sent."""

    def __init__(self) -> None:
        self.world = World(0, 1)


def refuse_exchange(train: Train, kind: str) -> None:
    """Raise UsageError for settings of an exchange of gradients, and of an average of weights over the steps.

    `kind` is the method whose ranks learn by themselves.
    """
    for key, value in (
        ("gradients", "auto"),
        ("gradient_compression", "none"),
        ("reduction", "sum"),
        ("ema_decay", None),
    ):
        if getattr(train, key) != value:
            raise UsageError(
                f'train.{key} = {getattr(train, key)!r} does not go with method.kind = "{kind}", whose steps send no '
                "gradients and have no common weights: leave it out"
            )
