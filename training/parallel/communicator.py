"""Collectives of the ranks, on either library: exact sums, agreement on errors, broadcasts."""

import os
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from common.errors import DataError, RinglakeError, UsageError
from common.progress import log
from training.parallel.backends import Backend
from training.parallel.shared_memory import SharedSums
from training.parallel.world import check_launcher


class Communicator:
    """Processes that train together. All of them have to call every method but `stop`, in the same order."""

    def __init__(self, backend: Backend, shared: SharedSums | None = None) -> None:
        self.backend, self.world, self.shared = backend, backend.world, shared

    @classmethod
    def start(cls, backend: str = "horovod") -> "Communicator":
        """Join the ring that the launcher set up; without one, a ring of one.

        `backend` as `train.backend`. Raises UsageError if the launcher is that of the other.
        """
        check_launcher(backend)
        if backend == "ddp":
            from training.parallel.process_groups import ProcessGroups

            started: Backend = ProcessGroups.start()
        else:
            # The other back end does without Horovod, which may not be installed.
            from training.parallel.horovod_backend import HorovodBackend

            started = HorovodBackend.start()
        return cls(started, SharedSums.open(started))

    def stop(self) -> None:
        """Leave the ring; pending operations of the others fail at once instead of waiting for this process."""
        if self.shared is not None:
            self.shared.close()
        self.backend.stop()

    @property
    def writes(self) -> bool:
        """True for the one rank that writes files and speaks to the user."""
        return self.world.rank == 0

    def sum_integers(self, values: Sequence[int]) -> list[int]:
        """Sum integers from 0 to 2^64-1 over all ranks, modulo 2^64: exact, unlike sums of floats.

        Halves of 32 bits travel as int64, so that no sum over fewer than 2^31 ranks overflows.
        """
        halves = [half for value in values for half in (value >> 32, value & 0xFFFFFFFF)]
        total = self.begin_sum(torch.tensor(halves, dtype=torch.int64), "integers")().tolist()
        return [((total[i] << 32) + total[i + 1]) % 2**64 for i in range(0, len(total), 2)]

    def sum_floats(self, values: Sequence[float]) -> list[float]:
        """Sum over all ranks in float64."""
        total = self.begin_sum(torch.tensor(values, dtype=torch.float64), "floats")()
        return [float(value) for value in total.tolist()]

    def begin_sum(self, tensor: torch.Tensor, name: str) -> Callable[[], torch.Tensor]:
        """Begin to sum a contiguous tensor over all ranks, in place; the function returned waits and returns it.

        It travels while the ranks compute, and costs a single process nothing. Sums under way at the same time have
        different names, and all ranks begin them in the same order.
        """
        if self.world.size == 1:
            return lambda: tensor
        found = None if self.shared is None else self.shared.begin(tensor, name)
        return self.backend.begin_sum(tensor, name) if found is None else found

    def begin_any(self, flags: Sequence[bool]) -> Callable[[], list[bool]]:
        """Begin to find out which of some flags is set on any rank; the function returned waits for the answer."""
        counts = self.begin_sum(torch.tensor(flags, dtype=torch.int32), "flags")
        return lambda: [bool(count) for count in counts().tolist()]

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's value on every rank."""
        return self.broadcast_from(0, value)

    def broadcast_from(self, rank: int, value: Any) -> Any:
        """Return the value of `rank` on every rank."""
        return value if self.world.size == 1 else self.backend.broadcast_object(value, rank)

    def broadcast_parameters(self, model: nn.Module) -> None:
        """Give the model of every rank the parameters and buffers of rank 0's."""
        if self.world.size > 1:
            self.backend.broadcast_tensors(model.state_dict())

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in the order of the ranks, on every rank."""
        return [value] if self.world.size == 1 else self.backend.gather_objects(value)

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


def device_of(communicator: Communicator) -> torch.device:
    """Return a GPU if all ranks have one that they can send from, else the CPU; called by all ranks.

    Raises UsageError on all ranks if Horovod sends over NCCL and a machine has fewer GPUs than ranks: NCCL does not let
    them share one.
    """
    backend, alone = communicator.backend, communicator.world.size == 1
    has_gpu = torch.cuda.is_available()
    error: UsageError | None = None
    if has_gpu and not alone and backend.needs_a_gpu_each and backend.local_size > torch.cuda.device_count():
        error = UsageError(
            f"{backend.local_size} ranks on a machine with {torch.cuda.device_count()} GPU(s): this Horovod sends over "
            "NCCL, which wants a GPU for each; start fewer ranks, or train on CPUs (CUDA_VISIBLE_DEVICES=-1)"
        )
    communicator.agree(error)
    usable = communicator.gather(has_gpu and (alone or backend.sends_from_gpus))
    if not all(usable):
        if communicator.writes and has_gpu:
            log(
                "note: the ranks train on CPUs, because this Horovod was built without CUDA, or not all machines have "
                "GPUs; HOROVOD_GPU_OPERATIONS=NCCL make setup builds one with it"
            )
        return torch.device("cpu")
    device = torch.device("cuda", backend.local_rank % torch.cuda.device_count())
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
