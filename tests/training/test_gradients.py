"""Exchanges of gradients: on two ranks the sum is that of the whole batch; in a ring of one nothing changes."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import training
from common.errors import UsageError
from schemas.settings import Train
from tests.training.devices import DEVICES, HAS_GPU, OF_TWO
from tests.training.looking_up import LookUp, a_loss
from training.parallel import gradients
from training.parallel.backends import Backend
from training.parallel.communicator import Communicator
from training.parallel.world import World

REPOSITORY = Path(training.__file__).parents[1]
HOROVODRUN = Path(sys.executable).with_name("horovodrun")
CPU = torch.device("cpu")
on_each_device = pytest.mark.parametrize("device", DEVICES)


def exchange_of(model: nn.Module, communicator: Communicator, **train: Any) -> gradients.Exchange:
    return gradients.build(Train.model_validate(train), model, communicator, next(model.parameters()).device)


def after_step(model: nn.Module, exchange: gradients.Exchange, step: int) -> list[Tensor]:
    exchange.begin()
    exchange.backward(a_loss(model, step, 0, 8))
    exchange.sum()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def plain(model: nn.Module, step: int) -> list[Tensor]:
    twin = copy.deepcopy(model)
    for parameter in twin.parameters():
        parameter.grad = None
    for module in twin.modules():
        module._forward_pre_hooks.clear()
        if isinstance(module, nn.Embedding):
            module.sparse = False
    a_loss(twin, step, 0, 8).backward()
    return [p.grad for p in twin.parameters() if p.grad is not None]


@on_each_device
@pytest.mark.parametrize("name", ["auto", "flat", "overlapped"])
def test_step_after_step_the_gradients_are_those_of_backward(
    communicator: Communicator, name: str, device: str
) -> None:
    model = LookUp().to(device)
    exchange = exchange_of(model, communicator, gradients=name)
    for step in range(4):
        found, right = after_step(model, exchange, step), plain(model, step)
        assert len(found) == len(right) == 4
        for ours, theirs in zip(found, right, strict=True):
            torch.testing.assert_close(ours, theirs)
            # Rows untouched by a step hold nothing of the previous step.
            assert torch.equal(ours == 0, theirs == 0)


@on_each_device
@pytest.mark.parametrize("name", ["auto", "flat", "overlapped"])
def test_several_passes_add_up_and_may_be_changed_before_they_are_summed(
    communicator: Communicator, name: str, device: str
) -> None:
    model = LookUp().to(device)
    exchange = exchange_of(model, communicator, gradients=name)
    for step in range(2):
        right = plain(model, step)
        for factor in (1.0, 0.5):
            exchange.begin()
            exchange.backward(a_loss(model, step, 0, 3), last=False)
            exchange.backward(a_loss(model, step, 3, 8), last=factor == 1.0)
            if factor != 1.0:
                for parameter in model.parameters():
                    assert parameter.grad is not None
                    parameter.grad.mul_(factor)
            exchange.sum()
            for ours, theirs in zip(model.parameters(), right, strict=True):
                torch.testing.assert_close(ours.grad, theirs * factor)


@on_each_device
@pytest.mark.parametrize("name", ["auto", "flat", "overlapped"])
def test_a_rank_without_rows_adds_zeros(communicator: Communicator, name: str, device: str) -> None:
    model = LookUp().to(device)
    exchange = exchange_of(model, communicator, gradients=name)
    after_step(model, exchange, 0)
    exchange.begin()
    exchange.backward(None)
    exchange.sum()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()


@on_each_device
def test_half_precision_is_used_where_asked_for(communicator: Communicator, device: str) -> None:
    model = LookUp().to(device)
    found = after_step(
        model, exchange_of(model, communicator, gradients="flat", gradient_compression="fp16"), 0
    )
    for ours, theirs in zip(found, plain(model, 0), strict=True):
        assert torch.equal(ours, theirs.half().float())


def test_the_hardware_decides_by_default(communicator: Communicator) -> None:
    settings, model = Train(), LookUp()
    two = Communicator(cast(Backend, SimpleNamespace(world=World(0, 2), sends_from_gpus=True)))
    assert isinstance(gradients.build(settings, model, communicator, CPU), gradients.Alone)
    assert isinstance(gradients.build(settings, model, two, CPU), gradients.Flat)
    assert isinstance(gradients.build(settings, model, two, torch.device("cuda")), gradients.Overlapped)


def test_a_horovod_without_cuda_is_refused_where_it_has_to_send_from_a_gpu(
    communicator: Communicator,
) -> None:
    gpu, model = torch.device("cuda", 0), LookUp()
    # A ring of one sends nothing.
    assert isinstance(gradients.build(Train(), model, communicator, gpu), gradients.Alone)
    two = Communicator(cast(Backend, SimpleNamespace(world=World(0, 2), sends_from_gpus=False)))
    with pytest.raises(
        UsageError, match=r"built without CUDA .* cuda:0: .*HOROVOD_GPU_OPERATIONS=NCCL make setup"
    ):
        gradients.build(Train(), model, two, gpu)


def test_only_large_tables_that_belong_to_one_module_travel_by_rows(communicator: Communicator) -> None:
    model = LookUp()
    assert [table.name for table in gradients.Flat(model, communicator, half=False).tables] == ["table"]
    tied = LookUp()
    tied.decoder = nn.Linear(6, gradients.TABLE_ROWS, bias=False)
    tied.decoder.weight = tied.table.weight
    assert gradients.Flat(tied, communicator, half=False).tables == []


def test_a_table_that_is_not_only_looked_up_is_refused(communicator: Communicator) -> None:
    class Tied(LookUp):
        def forward(self, ids: Tensor) -> Tensor:
            return super().forward(ids) + self.table.weight.sum()

    model = Tied()
    exchange = exchange_of(model, communicator, gradients="flat")
    with pytest.raises(UsageError, match=r'embedding table .* set train.gradients = "overlapped"'):
        after_step(model, exchange, 0)
    after_step(model, exchange_of(model, communicator, gradients="overlapped"), 0)


def test_evaluation_leaves_no_traces(communicator: Communicator) -> None:
    model = LookUp()
    exchange = gradients.Flat(model, communicator, half=False)
    with torch.no_grad():
        a_loss(model, 0, 0, 8)
    assert exchange.tables[0].seen == []


def test_a_new_exchange_takes_the_place_of_the_old(communicator: Communicator) -> None:
    model = LookUp()
    for _ in range(3):
        exchange_of(model, communicator, gradients="flat")
        assert model.table.sparse
        assert len(model.table._forward_pre_hooks) == 1
    exchange_of(model, communicator, gradients="overlapped")
    assert not model.table.sparse
    assert not model.table._forward_pre_hooks


@pytest.mark.skipif(HAS_GPU, reason="with a GPU they have processors of their own")
def test_horovods_threads_step_back_and_this_one_does_not() -> None:
    before = set(os.listdir("/proc/self/task"))
    communicator = Communicator.start()
    try:
        started = [int(thread) for thread in set(os.listdir("/proc/self/task")) - before]
        assert started
        for thread in started:
            assert os.sched_getscheduler(thread) == os.SCHED_BATCH
            assert os.getpriority(os.PRIO_PROCESS, thread) >= 10
        assert os.sched_getscheduler(0) == os.SCHED_OTHER
    finally:
        communicator.stop()


@pytest.fixture(scope="module", params=[*((device, "horovod", 2) for device in OF_TWO), ("cpu", "ddp", 3)])
def launched(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[tuple[int, str], list[tuple[float, str]]]:
    """Return, by rank and exchange, the largest relative error and the hash of the gradients, of two equal runs."""
    device, backend, ranks = request.param
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    environment["PATH"] = f"{HOROVODRUN.parent}{os.pathsep}{environment['PATH']}"
    script = str(Path(__file__).with_name("two_ranks.py"))
    launcher = {
        "horovod": [str(HOROVODRUN), "-np", str(ranks), "--gloo", "-H", f"localhost:{ranks}", sys.executable],
        "ddp": [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            str(ranks),
        ],
    }[backend]
    done = subprocess.run(
        [*launcher, script, device, backend],
        cwd=tmp_path_factory.mktemp("launch"),
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[tuple[int, str], list[tuple[float, str]]] = {}
    for line in done.stdout.splitlines():
        words = line.partition("rank ")[2].split()
        if len(words) == 4:
            found.setdefault((int(words[0]), words[1]), []).append((float(words[2]), words[3]))
    return found


NAMES = [
    *("flat", "auto", "overlapped", "halves", "overlapped-halves", "flat-passes", "overlapped-passes"),
    *("flat-frozen", "overlapped-frozen", "overlapped-groups"),
]


def ranks_of(launched: dict[tuple[int, str], list[tuple[float, str]]]) -> set[int]:
    ranks = {rank for rank, _ in launched}
    assert {0, 1} <= ranks
    return ranks


@pytest.mark.parametrize("name", NAMES)
def test_ranks_sum_to_the_whole_batch(
    launched: dict[tuple[int, str], list[tuple[float, str]]], name: str
) -> None:
    tolerance = 2e-3 if "halves" in name else 1e-5
    for rank in ranks_of(launched):
        assert all(error < tolerance for error, _ in launched[rank, name])


@pytest.mark.parametrize("name", NAMES)
def test_ranks_and_runs_agree_bit_for_bit(
    launched: dict[tuple[int, str], list[tuple[float, str]]], name: str
) -> None:
    hashes = [found for rank in ranks_of(launched) for _, found in launched[rank, name]]
    assert len(hashes) == 2 * len(ranks_of(launched))
    assert len(set(hashes)) == 1
