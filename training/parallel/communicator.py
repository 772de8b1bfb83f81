"""All of Horovod's collectives outside the gradient exchange: exact sums, agreement on errors, broadcasts."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import horovod.torch as hvd
import numpy as np
import torch

from common.errors import DataError, RinglakeError, UsageError
from common.progress import log
from training.parallel import watchdog
from training.parallel.horovod_threads import start_horovod
from training.parallel.world import World

CYCLE_MILLISECONDS = "0.1"
"""Cycle time of Horovod's background thread on machines without GPUs, where it only uses idle processors. An explicit
HOROVOD_CYCLE_TIME (`horovodrun --cycle-time-ms`) wins.
"""


class Communicator:
    """Processes that train together. All of them have to call every method but `stop`, in the same order."""

    def __init__(self, world: World, local_rank: int) -> None:
        self.world, self.local_rank = world, local_rank

    @classmethod
    def start(cls) -> "Communicator":
        """Join the ring that `horovodrun` set up; without it, a ring of one."""
        # Groups of gradients that happen to be ready at once must not be fused: the order of summation would change.
        os.environ.setdefault("HOROVOD_DISABLE_GROUP_FUSION", "1")
        if not torch.cuda.is_available():
            os.environ.setdefault("HOROVOD_CYCLE_TIME", CYCLE_MILLISECONDS)
            start_horovod()
        else:
            hvd.init()
        return cls.joined()

    @classmethod
    def joined(cls) -> "Communicator":
        """Return the ring that this process is in; in elastic training it may not be the one that it started in."""
        return cls(World(hvd.rank(), hvd.size()), hvd.local_rank())

    @staticmethod
    def stop() -> None:
        """Leave the ring; pending operations of the others fail at once instead of waiting for this process."""
        hvd.shutdown()

    @property
    def writes(self) -> bool:
        """True for the one rank that writes files and speaks to the user."""
        return self.world.rank == 0

    def sum_integers(self, values: Sequence[int]) -> list[int]:
        """Sum integers from 0 to 2^64-1 over all ranks, modulo 2^64: exact, unlike sums of floats.

        Halves of 32 bits travel as int64, so that no sum over fewer than 2^31 ranks overflows.
        """
        halves = [half for value in values for half in (value >> 32, value & 0xFFFFFFFF)]
        total = self._sum(torch.tensor(halves, dtype=torch.int64), "integers").tolist()
        return [((total[i] << 32) + total[i + 1]) % 2**64 for i in range(0, len(total), 2)]

    def sum_floats(self, values: Sequence[float]) -> list[float]:
        """Sum over all ranks in float64."""
        total = self._sum(torch.tensor(values, dtype=torch.float64), "floats")
        return [float(value) for value in total.tolist()]

    @staticmethod
    def _sum(tensor: torch.Tensor, name: str) -> torch.Tensor:
        handle = hvd.allreduce_async(tensor, op=hvd.Sum, name=name)
        wait_for(handle)
        total: torch.Tensor = hvd.synchronize(handle)
        return total

    def begin_any(self, flags: Sequence[bool]) -> Callable[[], list[bool]]:
        """Begin to find out which of some flags is set on any rank; the function returned waits for the answer.

        It travels while the ranks compute, and costs a single process nothing.
        """
        if self.world.size == 1:
            return lambda: list(flags)
        handle = hvd.allreduce_async(torch.tensor(flags, dtype=torch.int32), op=hvd.Sum, name="flags")

        def answer() -> list[bool]:
            wait_for(handle)
            return [bool(count) for count in hvd.synchronize(handle).tolist()]

        return answer

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's value on every rank."""
        # Without a name Horovod takes that of the value's type; if the ranks' types differ they would wait for ever.
        return self.broadcast_from(0, value)

    def broadcast_from(self, rank: int, value: Any) -> Any:
        """Return the value of `rank` on every rank."""
        if self.world.size == 1:
            return value
        with watchdog.waiting():
            return hvd.broadcast_object(value, root_rank=rank, name="value")

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in the order of the ranks, on every rank."""
        if self.world.size == 1:
            return [value]
        with watchdog.waiting():
            return list(hvd.allgather_object(value, name="values"))

    def agree(self, error: RinglakeError | OSError | None) -> None:
        """Raise on every rank if any of them brings an error, so that none waits for one that has given up.

        A rank's own error is raised where there is one, elsewhere the first error of the others.
        """
        mine = None if error is None else (getattr(error, "exit_status", 1), str(error))
        found = self.gather(mine)
        if isinstance(error, RinglakeError):
            raise error
        for rank, entry in enumerate(found):
            if entry is not None:
                status, message = cast(tuple[int, str], entry)
                shared = DataError(f"{message} (found by rank {rank})")
                shared.exit_status = status
                raise shared from error


def wait_for(handle: int) -> None:
    """Sleep until an asynchronous operation of Horovod has ended; its own `synchronize` busy-waits.

    If ranks share processors, busy-waiting takes them from the ranks that are being waited for.
    """
    pause = 0.00005
    with watchdog.waiting():
        while not hvd.poll(handle):
            time.sleep(pause)
            pause = min(2 * pause, 0.0002)


def device_of(communicator: Communicator) -> torch.device:
    """Return a GPU if all ranks have one that Horovod can send from, else the CPU; called by all ranks.

    Raises UsageError on all ranks if Horovod sends over NCCL and a machine has fewer GPUs than ranks: NCCL does not let
    them share one.
    """
    alone = communicator.world.size == 1
    has_gpu = torch.cuda.is_available()
    error: UsageError | None = None
    if has_gpu and not alone and hvd.nccl_built() and hvd.local_size() > torch.cuda.device_count():
        error = UsageError(
            f"{hvd.local_size()} ranks on a machine with {torch.cuda.device_count()} GPU(s): this Horovod sends over "
            "NCCL, which wants a GPU for each; start fewer ranks, or train on CPUs (CUDA_VISIBLE_DEVICES=-1)"
        )
    communicator.agree(error)
    usable = communicator.gather(has_gpu and (alone or hvd.cuda_built()))
    if not all(usable):
        if communicator.writes and has_gpu:
            log(
                "note: the ranks train on CPUs, because this Horovod was built without CUDA, or not all machines have "
                "GPUs; HOROVOD_GPU_OPERATIONS=NCCL make setup builds one with it"
            )
        return torch.device("cpu")
    device = torch.device("cuda", communicator.local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def make_deterministic(threads: int) -> None:
    """Fix threads and use deterministic kernels, so that equal runs give equal bits on one machine."""
    torch.set_num_threads(threads)
    # cuBLAS needs it for deterministic results; no effect on CPUs.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # By default it also overwrites all fresh memory, to expose reads of unset values: a fifth of a step's time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def seed_of(*parts: int) -> int:
    """Return a 63-bit seed determined by all parts, each of them entering in full."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
