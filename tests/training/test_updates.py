"""Optimizers, schedules, averages of weights, precision and accumulation, on the smallest model."""

import copy
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from schemas.kinds import OPTIMIZERS
from schemas.optimizers.sgd import Sgd
from schemas.settings import Train
from tests.training.linear import Linear, a_batch, gradients, method_of
from training.methods import Method
from training.methods.plain import Plain, cut
from training.optimizers import build
from training.optimizers.precision import Precision
from training.optimizers.schedules import learning_rate
from training.parallel.communicator import Communicator

CPU = torch.device("cpu")


def optimizer(kind: str, **keys: Any) -> Any:
    return OPTIMIZERS.classes[kind].model_validate({"kind": kind, **keys})


def weight_of(method: Method) -> torch.Tensor:
    assert isinstance(method.judged, Linear)
    return method.judged.layer.weight.detach()


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS.classes))
def test_every_optimizer_learns_and_goes_on_from_its_state_bit_for_bit(
    kind: str, communicator: Communicator
) -> None:
    torch.manual_seed(0)
    model, settings = Linear(), optimizer(kind, learning_rate=0.01, warm_up=0.0, schedule="constant")
    method = method_of(model, communicator, optimizer=settings)
    losses = [float(method.step(a_batch(0, 8, 8), step).loss_sum) for step in range(20)]
    assert losses[-1] < losses[0]
    other = copy.deepcopy(model)
    resumed = method_of(other, communicator, optimizer=settings)
    resumed.load_state(copy.deepcopy(method.state()))
    for each in (method, resumed):
        each.step(a_batch(0, 8, 8), 20)
    assert all(map(torch.equal, model.parameters(), other.parameters()))


def test_l2_is_in_the_gradient_and_weight_decay_is_not() -> None:
    """Of a gradient of 0: Adam takes a step of the length of its rate for L2, and AdamW's decay is a share."""
    moved = {}
    for kind, keys in {"adam": {"l2": 0.5}, "adamw": {"weight_decay": 0.5}, "sgd": {"l2": 0.5}}.items():
        layer = nn.Linear(2, 2, bias=False)
        nn.init.constant_(layer.weight, 3.0)
        layer.weight.grad = torch.zeros_like(layer.weight)
        build(layer, optimizer(kind, learning_rate=0.1, **keys)).step()
        moved[kind] = float(layer.weight.detach().mean())
    assert moved["adam"] == pytest.approx(3.0 - 0.1, rel=1e-5)
    assert moved["adamw"] == pytest.approx(3.0 * (1 - 0.1 * 0.5), rel=1e-5)
    assert moved["sgd"] == pytest.approx(3.0 - 0.1 * 0.5 * 3.0, rel=1e-5)


def test_nesterov_looks_ahead() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 1.0)
    settings = Sgd(kind="sgd", learning_rate=0.1, momentum=0.5, nesterov=True)
    steps = build(layer, settings)
    for _ in range(2):
        layer.weight.grad = torch.ones_like(layer.weight)
        steps.step()
    assert float(layer.weight.detach()) == pytest.approx(1.0 - 0.1 * (1 + 0.5) - 0.1 * (1 + 0.5 * 1.5))


@pytest.mark.parametrize(
    ("schedule", "keys", "rates"),
    [
        ("constant", {}, {0: 0.5, 1: 1.0, 2: 1.0, 19: 1.0}),
        ("exponential", {"decay": 0.5}, {1: 1.0, 2: 1.0, 7: 0.5, 12: 0.25}),
        ("step", {"decay": 0.1, "step_epochs": 2}, {2: 1.0, 9: 1.0, 10: 0.1, 19: 0.1}),
        ("cosine", {"final": 0.2}, {2: 1.0, 11: 0.6}),
        ("one_cycle", {"final": 0.0}, {1: 1.0, 2: 1.0, 11: 0.5}),
    ],
)
def test_schedules(schedule: str, keys: dict[str, float], rates: dict[int, float]) -> None:
    """20 steps in 4 epochs, of which 2 warm up."""
    settings = optimizer("sgd", learning_rate=2.0, schedule=schedule, warm_up=0.1, **keys)
    found = {step: learning_rate(settings, step, 20, 4) for step in rates}
    assert found == pytest.approx({step: 2.0 * rate for step, rate in rates.items()})


def test_one_cycle_is_pytorchs() -> None:
    settings = optimizer("sgd", learning_rate=1.0, schedule="one_cycle", warm_up=0.3)
    ours = [learning_rate(settings, step, 100, 1) for step in (29, 64, 99)]
    model = nn.Linear(1, 1)
    steps = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        steps, 1.0, total_steps=100, pct_start=0.3, cycle_momentum=False, final_div_factor=1e9
    )
    theirs = []
    for step in range(100):
        if step in (29, 64, 99):
            theirs.append(schedule.get_last_lr()[0])
        steps.step()
        if step < 99:
            schedule.step()
    assert ours == pytest.approx(theirs, abs=0.04)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"schedule": "constant", "final": 0.1}, "final is no key of schedule"),
        ({"schedule": "cosine", "decay": 0.5}, "decay is no key of schedule"),
        ({"nesterov": True, "momentum": 0.0}, "set momentum above 0"),
    ],
)
def test_keys_that_do_nothing_are_refused(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        optimizer("sgd", **keys)


def test_the_average_is_judged_and_a_resume_goes_on_with_both(communicator: Communicator) -> None:
    torch.manual_seed(0)
    model = Linear()
    method = method_of(model, communicator, ema_decay=0.9)
    expected, weight = copy.deepcopy(model.layer.weight.detach()), []
    for step in range(5):
        method.step(a_batch(0, 8, 8), step)
        weight.append(model.layer.weight.detach().clone())
        share = 1.0 if step == 0 else 1 - min(0.9, (1 + step) / (10 + step))
        expected += share * (weight[-1] - expected)
    judged = weight_of(method)
    torch.testing.assert_close(judged, expected)
    assert not torch.allclose(judged, weight[-1])
    restored = Linear()
    restored.load_state_dict(method.judged.state_dict())  # as a checkpoint has it
    resumed = method_of(restored, communicator, ema_decay=0.9)
    resumed.load_state(copy.deepcopy(method.state()))
    for each in (method, resumed):
        each.step(a_batch(0, 8, 8), 5)
    assert torch.equal(model.layer.weight, restored.layer.weight)
    assert torch.equal(weight_of(method), weight_of(resumed))


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 4.0])])
@pytest.mark.parametrize("parts", [2, 3, 8, 20])
def test_accumulated_gradients_are_those_of_the_whole(
    communicator: Communicator, weights: torch.Tensor | None, parts: int
) -> None:
    torch.manual_seed(0)
    whole = Linear()
    cut_up = copy.deepcopy(whole)
    first = method_of(whole, communicator, weights).step(a_batch(0, 8, 8), 0)
    second = method_of(cut_up, communicator, weights, accumulate=parts).step(a_batch(0, 8, 8), 0)
    assert float(first.loss_sum) == pytest.approx(float(second.loss_sum))
    assert float(first.weight_sum) == pytest.approx(float(second.weight_sum))
    for ours, theirs in zip(gradients(cut_up), gradients(whole), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_parts_hold_every_row_once_and_some_none() -> None:
    sizes = [part.rows for part in cut(a_batch(0, 8, 8), 3)]
    assert (sum(sizes), max(sizes) - min(sizes)) == (8, 1)
    assert [part.rows for part in cut(a_batch(3, 3, 8), 2)] == [0, 0]
    assert sorted(part.rows for part in cut(a_batch(0, 2, 8), 4)) == [0, 0, 1, 1]


def test_a_rank_without_rows_accumulates_nothing(communicator: Communicator) -> None:
    model = Linear()
    method_of(model, communicator, accumulate=3).step(a_batch(3, 3, 8), 0)
    assert not any(gradient.any() for gradient in gradients(model))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_computes_in_halves_and_keeps_float32(
    communicator: Communicator, precision: str
) -> None:
    torch.manual_seed(0)
    exact = Linear()
    halved = copy.deepcopy(exact)
    seen = []
    halved.layer.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    method_of(exact, communicator).step(a_batch(0, 8, 8), 0)
    method_of(halved, communicator, precision=precision).step(a_batch(0, 8, 8), 0)
    assert seen == [{"bf16": torch.bfloat16, "fp16": torch.float16}[precision]]
    assert all(
        p.dtype == g.dtype == torch.float32
        for p, g in zip(halved.parameters(), gradients(halved), strict=True)
    )
    for ours, theirs in zip(gradients(halved), gradients(exact), strict=True):
        torch.testing.assert_close(ours, theirs, atol=0.01, rtol=0.05)
        assert not torch.equal(ours, theirs)


def test_an_overflow_skips_the_step_lowers_the_scale_and_is_no_fault_of_the_data(
    communicator: Communicator,
) -> None:
    model = Linear()
    method = method_of(model, communicator, precision="fp16", ema_decay=0.5)
    assert isinstance(method, Plain)
    before = copy.deepcopy(model.state_dict())
    method.precision.load_state({**method.precision.state(), "scale": 2.0**40})
    scale = method.state()["scale"]["scale"]
    result = method.step(a_batch(0, 8, 8), 0)
    assert result.overflow
    assert not torch.isfinite(result.gradient_norm)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert int(method.average.n_averaged) == 0  # type: ignore[union-attr]
    assert method.state()["scale"]["scale"] == scale / 2
    for step in range(1, 40):
        result = method.step(a_batch(0, 8, 8), step)
    assert not result.overflow
    assert math.isfinite(float(result.gradient_norm))


def test_a_loss_that_is_no_number_is_a_fault_of_the_data_once_the_scale_is_one(
    communicator: Communicator,
) -> None:
    model = Linear()
    method = method_of(model, communicator, precision="fp16")
    assert isinstance(method, Plain)
    method.precision.load_state({**method.precision.state(), "scale": 1.0})
    batch = a_batch(0, 8, 8)
    batch.features["x"][0] = math.nan
    result = method.step(batch, 0)
    assert not result.overflow
    assert not torch.isfinite(result.gradient_norm)


def test_the_scale_goes_on_after_a_resume(communicator: Communicator) -> None:
    model = Linear()
    method = method_of(model, communicator, precision="fp16")
    for step in range(3):
        method.step(a_batch(0, 8, 8), step)
    other = method_of(copy.deepcopy(model), communicator, precision="fp16")
    other.load_state(copy.deepcopy(method.state()))
    assert other.state()["scale"] == method.state()["scale"]
    assert other.state()["scale"]["_growth_tracker"] == 3


def test_a_ranks_infinity_is_in_the_sum_and_lowers_the_scale_of_all() -> None:
    """A rank whose own gradient is finite sees the sum alone, and decides as the others do."""
    model = nn.Linear(2, 1)
    precision = Precision(Train(precision="fp16"), CPU, model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) + torch.tensor(math.inf)
    assert precision.unscale(torch.optim.SGD(model.parameters()))
    assert precision.state()["scale"] == 2.0**15


def test_clipping_sees_the_gradient_without_its_scale(communicator: Communicator) -> None:
    torch.manual_seed(0)
    exact = Linear()
    halved = copy.deepcopy(exact)
    norm = float(method_of(exact, communicator).step(a_batch(0, 8, 8), 0).gradient_norm)
    limit = norm / 2
    result = method_of(halved, communicator, precision="fp16", clip_norm=limit).step(a_batch(0, 8, 8), 0)
    assert float(result.gradient_norm) == pytest.approx(norm, rel=0.01)
    clipped = torch.cat([gradient.flatten() for gradient in gradients(halved)])
    assert float(clipped.norm()) == pytest.approx(limit, rel=1e-4)
