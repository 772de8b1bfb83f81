"""Plain training: the update is that of the whole batch, however its rows are spread."""

import copy
import dataclasses
import math
import sys

import horovod.torch as hvd
import pytest
import torch
from torch import nn
from torch.nn import functional

from common.errors import UsageError
from schemas.optimizers.adamw import AdamW
from schemas.optimizers.sgd import Sgd
from tests.training.linear import CLASSES, Linear, a_batch, gradients, method_of
from training.optimizers import build as build_optimizer
from training.optimizers.schedules import learning_rate
from training.parallel.communicator import Communicator


def test_a_step_is_adamws_on_the_mean_loss(communicator: Communicator) -> None:
    torch.manual_seed(0)
    model = Linear()
    reference = copy.deepcopy(model)
    batch = a_batch(0, 8, 8)
    result = method_of(model, communicator).step(batch, 0)
    optimizer = build_optimizer(reference, AdamW(kind="adamw", learning_rate=0.1, weight_decay=0.1))
    assert batch.labels is not None
    loss = functional.cross_entropy(reference(batch.features)["logits"], batch.labels)
    loss.backward()
    optimizer.step()
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert result.loss_sum.item() / 8 == pytest.approx(loss.item())
    assert result.weight_sum.item() == 8


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 4.0])])
def test_a_rank_alone_sends_nothing(
    communicator: Communicator, weights: torch.Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("grouped_allreduce_async_", "broadcast_parameters", "broadcast_object"):
        monkeypatch.setattr(hvd, name, lambda *_, **__: pytest.fail("Horovod was called"))
    method = method_of(Linear(), communicator, weights)
    method.broadcast()
    assert torch.isfinite(method.step(a_batch(0, 8, 8), 0).gradient_norm)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 4.0])])
def test_gradients_of_the_parts_add_up_to_that_of_the_whole(
    communicator: Communicator, weights: torch.Tensor | None
) -> None:
    torch.manual_seed(0)
    model = Linear()
    whole = copy.deepcopy(model)
    method_of(whole, communicator, weights).step(a_batch(0, 8, 8), 0)
    total: list[torch.Tensor] = [torch.zeros_like(p) for p in model.parameters()]
    all_weights = 8.0 if weights is None else float(weights[torch.arange(8) % CLASSES].sum())
    for first, last in ((0, 3), (3, 3), (3, 8)):  # one of the three ranks has no rows
        part = copy.deepcopy(model)
        result = method_of(part, communicator, weights).step(a_batch(first, last, 8), 0)
        # In a ring of one the weights of the others are missing from the denominator; put them back.
        own = float(result.weight_sum)
        share = 1.0 if weights is None else own / all_weights
        for so_far, gradient in zip(total, gradients(part), strict=True):
            if last > first:
                so_far += gradient * share
            elif weights is None:
                assert not gradient.any()
    for so_far, gradient in zip(total, gradients(whole), strict=True):
        torch.testing.assert_close(so_far, gradient)


def test_class_weights_are_those_of_the_weighted_mean(communicator: Communicator) -> None:
    torch.manual_seed(0)
    model = Linear()
    reference = copy.deepcopy(model)
    weights = torch.tensor([0.5, 1.0, 4.0])
    batch = a_batch(0, 8, 8)
    method_of(model, communicator, weights).step(batch, 0)
    assert batch.labels is not None
    functional.cross_entropy(reference(batch.features)["logits"], batch.labels, weight=weights).backward()
    for ours, theirs in zip(gradients(model), gradients(reference), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gradients_are_clipped_and_the_norm_is_that_before(communicator: Communicator) -> None:
    torch.manual_seed(0)
    plain, clipped = Linear(), Linear()
    clipped.load_state_dict(plain.state_dict())
    before = method_of(plain, communicator).step(a_batch(0, 8, 8), 0).gradient_norm
    after = (
        method_of(clipped, communicator, clip_norm=float(before) / 4).step(a_batch(0, 8, 8), 0).gradient_norm
    )
    assert float(after) == pytest.approx(float(before))
    norm = torch.sqrt(sum((g**2).sum() for g in gradients(clipped)) + torch.zeros(()))
    assert float(norm) == pytest.approx(float(before) / 4, rel=1e-4)


def test_biases_and_norms_do_not_decay() -> None:
    model = nn.Sequential(nn.Embedding(4, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    optimizer = build_optimizer(model, AdamW(kind="adamw", weight_decay=0.5))
    decaying = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in decaying}
    assert names == {"0.weight", "1.weight"}


def test_learning_rate_warms_up_and_anneals() -> None:
    settings = AdamW(kind="adamw", learning_rate=2.0, warm_up=0.2, final=0.1)
    rates = [learning_rate(settings, step, 20, 1) for step in range(20)]
    assert rates[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert rates[12] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    expected_last = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 15 / 16))
    assert rates[19] == pytest.approx(2.0 * expected_last)
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert learning_rate(AdamW(kind="adamw", warm_up=0.0), 0, 1, 1) == 1e-3


def test_a_restored_optimizer_goes_on_as_if_never_stopped(communicator: Communicator) -> None:
    torch.manual_seed(0)
    model = Linear()
    method = method_of(model, communicator)
    for step in range(3):
        method.step(a_batch(0, 8, 8), step)
    copied = Linear()
    copied.load_state_dict(model.state_dict())
    restored = method_of(copied, communicator)
    restored.load_state(copy.deepcopy(method.state()))
    for step in range(3, 6):
        method.step(a_batch(0, 8, 8), step)
        restored.step(a_batch(0, 8, 8), step)
    for ours, theirs in zip(model.parameters(), copied.parameters(), strict=True):
        assert torch.equal(ours, theirs)


class Words(nn.Module):
    """Model with a table large enough to travel by its occurring rows."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(2048, 4)
        self.layer = nn.Linear(4, CLASSES)

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"logits": self.layer(self.table(features["x"].long() + 7))}


@pytest.mark.parametrize("clip_norm", [1.0, None])
def test_nothing_of_a_batch_that_is_not_finite_stays(
    communicator: Communicator, clip_norm: float | None
) -> None:
    model = Words()
    method = method_of(model, communicator, gradients="flat", clip_norm=clip_norm)
    whole = a_batch(0, 8, 8)
    first = dataclasses.replace(whole, features={"x": torch.arange(8)})
    second = dataclasses.replace(whole, features={"x": 100 + torch.arange(8)})
    before = copy.deepcopy(model.state_dict())
    poison = model.layer.weight.register_hook(lambda gradient: gradient * torch.nan)
    assert not math.isfinite(float(method.step(first, 0).gradient_norm))
    poison.remove()
    for name, values in model.state_dict().items():
        assert torch.equal(values, before[name])
    assert math.isfinite(float(method.step(second, 1).gradient_norm))
    assert all(torch.isfinite(values).all() for values in model.state_dict().values())


def test_the_head_has_a_learning_rate_of_its_own(
    communicator: Communicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Linear()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = Sgd(
        kind="sgd", learning_rate=0.1, head_learning_rate=0.4, momentum=0.0, schedule="constant", warm_up=0.0
    )
    with pytest.raises(UsageError, match="this model has no parameters above a body"):
        method_of(model, communicator, optimizer=optimizer)
    monkeypatch.setattr(sys.modules[Linear.__module__], "HEADS", "layer.bias", raising=False)
    result = method_of(model, communicator, optimizer=optimizer).step(a_batch(0, 8, 8), 0)
    assert result.learning_rate == 0.1
    for was, now, rate in zip(before, model.parameters(), (0.1, 0.4), strict=True):
        assert now.grad is not None
        torch.testing.assert_close(now, was - rate * now.grad)
