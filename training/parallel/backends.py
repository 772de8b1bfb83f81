"""Collectives that the communicator needs from a library: the same ones of Horovod and of PyTorch's process groups."""

import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor

from training.parallel import watchdog
from training.parallel.world import World


class Backend(Protocol):
    """Ring of processes in which all but `stop` is called by all ranks, in the same order."""

    name: ClassVar[str]
    """Value of `train.backend`."""
    failure: ClassVar[type[Exception]]
    """Error of all collectives after another rank has died or left."""
    world: World
    local_rank: int
    local_size: int
    """Ranks on this machine."""

    def stop(self) -> None:
        """Leave the ring; pending operations of the others fail at once instead of waiting for this process."""

    def begin_sum(self, tensor: Tensor, name: str) -> Callable[[], Tensor]:
        """Begin to sum a contiguous tensor over all ranks, in place; the function returned waits and returns it.

        Sums under way at the same time have different names.
        """

    def broadcast_object(self, value: Any, root: int) -> Any:
        """Return the value of rank `root`."""

    def gather_objects(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in the order of the ranks."""

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite tensors with those of rank 0."""

    @property
    def sends_from_gpus(self) -> bool:
        """True if it can sum tensors on GPUs."""

    @property
    def needs_a_gpu_each(self) -> bool:
        """True if ranks cannot share a GPU."""

    def command(self) -> str:
        """Return the beginning of the command line that starts as many ranks of a module."""


def sleep_until(is_done: Callable[[], bool]) -> None:
    """Sleep until an asynchronous operation has ended; the libraries would busy-wait, or be deaf to signals.

    If ranks share processors, busy-waiting takes them from the ranks that are being waited for.
    """
    pause = 0.00005
    with watchdog.waiting():
        while not is_done():
            time.sleep(pause)
            pause = min(2 * pause, 0.0002)
