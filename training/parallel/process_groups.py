"""PyTorch's own process groups, set up by `torchrun`: `train.backend = "ddp"`."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ClassVar

import torch
from torch import Tensor, distributed

from training.parallel import watchdog
from training.parallel.backends import sleep_until
from training.parallel.world import World, launched

TIMEOUT = timedelta(days=1)
"""Limit of gloo and NCCL for a wait, above that of `train.watchdog`, which is to decide."""


class BrokenGroupError(RuntimeError):
    """Another rank has died or left."""


class ProcessGroups:
    """The group that `torchrun` set up: gloo for tensors on CPUs, NCCL where each rank has a GPU of its own.

    Ranks that share a GPU sum over gloo too, through the host. A process alone needs no group.
    """

    name: ClassVar[str] = "ddp"
    failure: ClassVar[type[Exception]] = BrokenGroupError

    def __init__(self) -> None:
        self.world = World(launched("RANK", 0), launched("WORLD_SIZE", 1))
        self.local_rank, self.local_size = launched("LOCAL_RANK", 0), launched("LOCAL_WORLD_SIZE", 1)
        self.over_nccl: distributed.ProcessGroup | None = None

    @classmethod
    def start(cls) -> "ProcessGroups":
        """Join the group that `torchrun` set up; without it, a ring of one."""
        joined = cls()
        if joined.world.size > 1:
            if joined.local_size == joined.world.size:
                # No other machine has to connect to this one.
                os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            with _breaking():
                distributed.init_process_group("gloo", timeout=TIMEOUT)
                has_gpu = torch.cuda.is_available() and joined.local_size <= torch.cuda.device_count()
                if all(joined.gather_objects(has_gpu)):
                    joined.over_nccl = distributed.new_group(backend="nccl", timeout=TIMEOUT)
        return joined

    def stop(self) -> None:
        if distributed.is_initialized():
            distributed.destroy_process_group()

    def begin_sum(self, tensor: Tensor, name: str) -> Callable[[], Tensor]:
        with _breaking():
            work = distributed.all_reduce(tensor, group=self._group(tensor), async_op=True)

        def wait() -> Tensor:
            assert work is not None
            with _breaking():
                sleep_until(work.is_completed)
                work.wait()
            return tensor

        return wait

    def _group(self, tensor: Tensor) -> distributed.ProcessGroup | None:
        return self.over_nccl if tensor.is_cuda else None

    def broadcast_object(self, value: Any, root: int) -> Any:
        values = [value]
        with watchdog.waiting(), _breaking():
            distributed.broadcast_object_list(values, src=root)
        return values[0]

    def gather_objects(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.world.size
        with watchdog.waiting(), _breaking():
            distributed.all_gather_object(values, value)
        return values

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        with watchdog.waiting(), _breaking():
            for tensor in tensors.values():
                sent = tensor.contiguous()
                distributed.broadcast(sent, 0, group=self._group(tensor))
                tensor.copy_(sent)

    @property
    def sends_from_gpus(self) -> bool:
        return True

    @property
    def needs_a_gpu_each(self) -> bool:
        return False

    def command(self) -> str:
        if self.world.size == 1:
            return "python -m"
        machines = self.world.size // self.local_size
        where = "--standalone" if machines == 1 else f"--nnodes {machines}"
        # Without the dashes torchrun takes our --run for an abbreviation of its own --run-path.
        return f"torchrun {where} --nproc-per-node {self.local_size} -m --"


@contextmanager
def _breaking() -> Iterator[None]:
    """Raise BrokenGroupError for the RuntimeError of gloo and NCCL."""
    try:
        yield
    except RuntimeError as error:
        raise BrokenGroupError(str(error)) from error
