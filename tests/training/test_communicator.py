"""The device that a rank trains on, for made-up machines."""

from typing import Any, cast

import pytest
import torch

from common.errors import UsageError
from training.parallel.backends import Backend
from training.parallel.communicator import Communicator, device_of
from training.parallel.world import World


class OneOfTwo:
    """Backend of a rank of two on one machine, with made-up values of the other in `gather_objects`."""

    name, failure, local_size = "horovod", RuntimeError, 2

    def __init__(
        self, rank: int = 0, size: int = 2, from_gpus: bool = True, nccl: bool = False, other: bool = True
    ) -> None:
        self.world, self.local_rank = World(rank, size), rank
        self.sends_from_gpus, self.needs_a_gpu_each, self.other_has_gpu = from_gpus, nccl, other

    def gather_objects(self, value: Any) -> list[Any]:
        return [value, self.other_has_gpu if isinstance(value, bool) else None]


def device_on(rank: int = 0, **made_up: Any) -> torch.device:
    return device_of(Communicator(cast(Backend, OneOfTwo(rank, **made_up))))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Set up a machine with one GPU; tests change it further."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    return monkeypatch


def test_a_rank_alone_trains_on_the_gpu_whatever_horovod_can(machine: pytest.MonkeyPatch) -> None:
    assert device_on(size=1, from_gpus=False) == torch.device("cuda", 0)


def test_ranks_share_a_gpu_where_horovod_sends_through_the_host(machine: pytest.MonkeyPatch) -> None:
    assert [device_on(rank) for rank in (0, 1)] == [torch.device("cuda", 0)] * 2


def test_each_rank_has_its_own_gpu_where_there_are_enough(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(torch.cuda, "device_count", lambda: 2)
    assert [device_on(rank, nccl=True).index for rank in (0, 1)] == [0, 1]


def test_too_few_gpus_for_nccl_are_an_error(machine: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"2 ranks on a machine with 1 GPU\(s\): .* start fewer ranks"):
        device_on(nccl=True)


def test_ranks_train_on_cpus_and_say_so_where_horovod_has_no_cuda(
    machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert device_on(from_gpus=False) == torch.device("cpu")
    assert "note: the ranks train on CPUs" in capsys.readouterr().err
    assert device_on(1, from_gpus=False) == torch.device("cpu")
    assert not capsys.readouterr().err


def test_all_ranks_train_on_cpus_where_one_has_no_gpu(machine: pytest.MonkeyPatch) -> None:
    assert device_on(other=False) == torch.device("cpu")


def test_without_a_gpu_nothing_is_said(
    machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.setattr(torch.cuda, "is_available", lambda: False)
    assert device_on(from_gpus=False) == torch.device("cpu")
    assert not capsys.readouterr().err
