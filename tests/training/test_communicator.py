"""The device that a rank trains on, for made-up machines."""

from typing import Any

import horovod.torch as hvd
import pytest
import torch

from common.errors import UsageError
from training.parallel.communicator import Communicator, device_of
from training.parallel.world import World


class OneOfTwo(Communicator):
    """A rank of two on one machine, with made-up values of the other in `gather`."""

    def __init__(self, local_rank: int = 0, other_has_gpu: bool = True) -> None:
        super().__init__(World(local_rank, 2), local_rank)
        self.other_has_gpu = other_has_gpu

    def gather(self, value: Any) -> list[Any]:
        return [value, self.other_has_gpu if isinstance(value, bool) else None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Set up one GPU, two ranks, and a Horovod that sends from GPUs through the host; tests change this further."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(hvd, "cuda_built", lambda: True)
    monkeypatch.setattr(hvd, "nccl_built", lambda: 0)
    monkeypatch.setattr(hvd, "local_size", lambda: 2)
    return monkeypatch


def test_a_rank_alone_trains_on_the_gpu_whatever_horovod_can(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(hvd, "cuda_built", lambda: False)
    assert device_of(Communicator(World(0, 1), 0)) == torch.device("cuda", 0)


def test_ranks_share_a_gpu_where_horovod_sends_through_the_host(machine: pytest.MonkeyPatch) -> None:
    assert [device_of(OneOfTwo(rank)) for rank in (0, 1)] == [torch.device("cuda", 0)] * 2


def test_each_rank_has_its_own_gpu_where_there_are_enough(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(torch.cuda, "device_count", lambda: 2)
    machine.setattr(hvd, "nccl_built", lambda: 22809)
    assert [device_of(OneOfTwo(rank)).index for rank in (0, 1)] == [0, 1]


def test_too_few_gpus_for_nccl_are_an_error(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(hvd, "nccl_built", lambda: 22809)
    with pytest.raises(UsageError, match=r"2 ranks on a machine with 1 GPU\(s\): .* start fewer ranks"):
        device_of(OneOfTwo())


def test_ranks_train_on_cpus_and_say_so_where_horovod_has_no_cuda(
    machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.setattr(hvd, "cuda_built", lambda: False)
    assert device_of(OneOfTwo()) == torch.device("cpu")
    assert "note: the ranks train on CPUs" in capsys.readouterr().err
    assert device_of(OneOfTwo(1)) == torch.device("cpu")
    assert not capsys.readouterr().err


def test_all_ranks_train_on_cpus_where_one_has_no_gpu(machine: pytest.MonkeyPatch) -> None:
    assert device_of(OneOfTwo(other_has_gpu=False)) == torch.device("cpu")


def test_without_a_gpu_nothing_is_said(
    machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.setattr(torch.cuda, "is_available", lambda: False)
    machine.setattr(hvd, "cuda_built", lambda: False)
    assert device_of(OneOfTwo()) == torch.device("cpu")
    assert not capsys.readouterr().err
