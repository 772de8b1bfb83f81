"""Horovod's ring, set up by `horovodrun`: `train.backend = "horovod"`."""

import os
from collections.abc import Callable, Mapping
from threading import Thread
from typing import Any, ClassVar

import horovod.torch as hvd
import torch
from horovod.common.exceptions import HorovodInternalError
from torch import Tensor

from training.parallel import watchdog
from training.parallel.backends import sleep_until
from training.parallel.world import World

CYCLE_MILLISECONDS = "0.1"
"""Cycle time of Horovod's background thread on machines without GPUs, where it only uses idle processors. An explicit
HOROVOD_CYCLE_TIME (`horovodrun --cycle-time-ms`) wins.
"""
NICENESS = 10


class HorovodBackend:
    """The ring that this process is in; in elastic training it may not be the one that it started in."""

    name: ClassVar[str] = "horovod"
    failure: ClassVar[type[Exception]] = HorovodInternalError

    def __init__(self) -> None:
        self.world = World(hvd.rank(), hvd.size())
        self.local_rank, self.local_size = hvd.local_rank(), hvd.local_size()

    @classmethod
    def start(cls) -> "HorovodBackend":
        """Join the ring that `horovodrun` set up; without it, a ring of one."""
        os.environ.setdefault("HOROVOD_DISABLE_GROUP_FUSION", "1")
        if not torch.cuda.is_available():
            os.environ.setdefault("HOROVOD_CYCLE_TIME", CYCLE_MILLISECONDS)
            start_yielding()
        else:
            hvd.init()
        return cls()

    @staticmethod
    def leave() -> None:
        """Leave the ring, also one that is broken."""
        hvd.shutdown()

    def stop(self) -> None:
        self.leave()

    def begin_sum(self, tensor: Tensor, name: str) -> Callable[[], Tensor]:
        # A group of its own is never fused with other tensors that happen to be ready at once, which would change the
        # order of summation. (With a HOROVOD_FUSION_THRESHOLD, a second `hvd.init` in a process crashes.)
        handle = hvd.grouped_allreduce_async_([tensor], name=name, op=hvd.Sum)

        def wait() -> Tensor:
            sleep_until(lambda: hvd.poll(handle))
            hvd.synchronize(handle)
            return tensor

        return wait

    def broadcast_object(self, value: Any, root: int) -> Any:
        # Without a name Horovod takes that of the value's type; if the ranks' types differ they would wait for ever.
        with watchdog.waiting():
            return hvd.broadcast_object(value, root_rank=root, name="value")

    def gather_objects(self, value: Any) -> list[Any]:
        with watchdog.waiting():
            return list(hvd.allgather_object(value, name="values"))

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        with watchdog.waiting():
            hvd.broadcast_parameters(dict(tensors), root_rank=0)

    @property
    def sends_from_gpus(self) -> bool:
        return bool(hvd.cuda_built())

    @property
    def needs_a_gpu_each(self) -> bool:
        return bool(hvd.nccl_built())

    def command(self) -> str:
        return f"horovodrun -np {self.world.size} python -m" if self.world.size > 1 else "python -m"


def start_yielding() -> None:
    """Run `hvd.init` so that the threads it starts yield to those that compute.

    One of them asks the other ranks in every cycle for work. It would interrupt the backward pass each time it wakes;
    as a batch thread it runs when a processor is idle, or in its turn. That makes short cycles cheap. Threads inherit
    their scheduling from the thread that starts them, and only a privileged process can undo it, so a separate thread
    starts them.
    """
    failed: list[BaseException] = []

    def start() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        # On Linux this applies to the calling thread, not to the whole process.
        os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
        try:
            hvd.init()
        except BaseException as error:  # noqa: BLE001 (raised again, in the thread that asked)
            failed.append(error)

    # While it waits for ranks that never come, it must not keep a process that was told to stop from ending.
    thread = Thread(target=start, name="horovod-start", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
