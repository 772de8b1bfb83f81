"""Federated training: rounds of silos on any number of ranks, what ranks send, and states within a round."""

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from schemas.methods.federated import Federated as Settings
from schemas.methods.plain import Plain as PlainSettings
from schemas.optimizers.adamw import AdamW
from schemas.settings import Train
from tests.training.linear import CLASSES, Classes
from tests.training.rings import together
from training import methods
from training.checkpoints import tensors
from training.input.batch_loader import LocalBatch
from training.methods.federated import Federated
from training.parallel.communicator import Communicator
from training.silos import combining
from training.silos.order import owner

ROWS = (40, 24, 8, 33, 16, 5, 20)
BATCH = 8
STEPS = 5
"""Steps of an epoch: those of the largest silo."""
FEATURES = 6
MARK = 1234.5
"""Value that every row has in its first column."""


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(FEATURES, 5), nn.Tanh(), nn.Linear(5, CLASSES))

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"logits": self.layers(features["x"] * torch.tensor([0.001, *[1.0] * (FEATURES - 1)]))}


torch.manual_seed(3)
BEGUN = Model()


def rows_of(silo: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the features and labels of a silo's rows."""
    generator = torch.Generator().manual_seed(silo)
    x = torch.randn((ROWS[silo], FEATURES), generator=generator)
    x[:, 0] = MARK
    return x, (x[:, 1] > 0).long() + (x[:, 2] > 0.5).long()


def local_batches(ranks: int, rank: int, epochs: int, done: int = 0) -> Iterator[LocalBatch]:
    """Yield the steps of a rank after the first `done`, as `SiloLoader` does."""
    for step in range(done, epochs * STEPS):
        epoch, place = divmod(step, STEPS)
        part = slice(place * BATCH, (place + 1) * BATCH)
        mine = [n for n, size in enumerate(ROWS) if size > part.start and owner(n, ranks) == rank]
        xs, ys = zip(*(rows_of(n) for n in mine), strict=True) if mine else ((), ())
        x = torch.cat([torch.zeros((0, FEATURES)), *(x[part] for x in xs)])
        y = torch.cat([torch.zeros(0, dtype=torch.int64), *(y[part] for y in ys)])
        silos = tuple((n, len(x[part])) for n, x in zip(mine, xs, strict=True))
        keys = np.zeros((len(x), 2), dtype=np.uint64)
        whole = sum(max(0, min(BATCH, size - part.start)) for size in ROWS)
        yield LocalBatch({"x": x}, y, keys, None, len(x), whole, epoch, 0, silos=silos)


def method_of(
    communicator: Communicator, epochs: int = 2, train: Mapping[str, Any] = {}, **keys: Any
) -> Federated:
    settings = Train.model_validate({"epochs": epochs, "batch": BATCH, **train})
    optimizer = AdamW(learning_rate=0.05, epsilon=1e-3)
    method = methods.build(
        methods.MethodContext(
            copy.deepcopy(BEGUN),
            Classes(None),
            Settings.model_validate(keys),
            optimizer,
            settings,
            communicator,
            torch.device("cpu"),
            epochs * STEPS,
        )
    )
    assert isinstance(method, Federated)
    return method


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def trained(ranks: int, epochs: int = 2, **keys: Any) -> tuple[torch.Tensor, dict[str, Any], list[Any]]:
    """Return the weights and facts after a training, the same on all ranks, and what ranks sent."""

    def work(communicator: Communicator) -> tuple[torch.Tensor, dict[str, Any], list[float]]:
        method, norms = method_of(communicator, epochs, **keys), []
        method.broadcast()
        for step, batch in enumerate(local_batches(ranks, communicator.world.rank, epochs)):
            norms.append(float(method.step(batch, step).gradient_norm))
            assert method.settled == ((step + 1) % (STEPS * method.settings.local_epochs) == 0)
        return flat(method.model), method.facts()["federated"], norms

    found, sent = together(ranks, work)
    for weights, facts, norms in found[1:]:
        assert weights.equal(found[0][0])
        assert (facts, norms) == found[0][1:]
    return *found[0][:2], sent


RULES: list[dict[str, Any]] = [
    {"combine": "mean"},
    {"combine": "median"},
    {"combine": "trimmed_mean", "hostile": 2},
    {"combine": "multi_krum", "hostile": 2},
    {"combine": "clipped_mean"},
    {"combine": "clipped_mean", "clip": 0.1},
]


@pytest.mark.parametrize("keys", RULES, ids=lambda keys: "-".join(map(str, keys.values())))
def test_the_number_of_ranks_changes_nothing_but_rounding(keys: dict[str, Any]) -> None:
    alone, facts, _ = trained(1, **keys)
    assert not torch.allclose(alone, flat(BEGUN))
    for ranks in (2, 3):
        weights, others, _ = trained(ranks, **keys)
        torch.testing.assert_close(weights, alone, rtol=0, atol=1e-6)
        assert others == facts


@pytest.mark.parametrize("local_epochs", [1, 2])
def test_a_round_is_the_rule_over_what_each_silo_learns_by_itself(
    communicator: Communicator, local_epochs: int
) -> None:
    begun, updates = flat(BEGUN), []
    for silo in range(len(ROWS)):
        method = method_of(communicator, 2, local_epochs=local_epochs)
        for step in range(STEPS * local_epochs):
            batch = list(local_batches(1, 0, 2))[step]
            first = sum(rows for number, rows in batch.silos if number < silo)
            rows = dict(batch.silos).get(silo, 0)
            only = dataclasses.replace(batch.part(first, first + rows), silos=((silo, rows),) if rows else ())
            method.step(only, step)
        updates.append(flat(method.model) - begun)
    whole = method_of(communicator, 2, local_epochs=local_epochs)
    for step, batch in enumerate(local_batches(1, 0, local_epochs)):
        whole.step(batch, step)
    expected = begun + combining.mean(torch.stack(updates), ROWS)
    torch.testing.assert_close(flat(whole.model), expected, rtol=0, atol=1e-6)


def test_one_silo_in_one_round_is_plain_training(communicator: Communicator) -> None:
    federated = method_of(communicator, 2, local_epochs=2)
    context = federated.context
    plain = methods.build(dataclasses.replace(context, model=copy.deepcopy(BEGUN), method=PlainSettings()))
    for step, batch in enumerate(local_batches(1, 0, 2)):
        rows = dict(batch.silos)[0]
        only = dataclasses.replace(batch.part(0, rows), silos=((0, rows),), global_rows=rows)
        ours, theirs = federated.step(only, step), plain.step(only, step)
        assert ours.learning_rate == theirs.learning_rate
        assert float(ours.gradient_norm) == pytest.approx(float(theirs.gradient_norm), rel=1e-6)
        assert float(ours.loss_sum) == float(theirs.loss_sum)
    torch.testing.assert_close(flat(federated.model), flat(plain.model), rtol=0, atol=1e-6)


@pytest.mark.parametrize("keys", RULES[:4], ids=lambda keys: str(keys["combine"]))
def test_ranks_send_updates_and_counts_but_no_row(keys: dict[str, Any]) -> None:
    weights, _, sent = trained(2, **keys)
    stacked = keys["combine"] in ("median", "trimmed_mean", "multi_krum")
    arrays, numbers = [], 0
    for value in sent:
        if isinstance(value, torch.Tensor):
            arrays.append(value)
            # A vector of the weights for all silos of the rank, or one a silo: as wide as the model, never as the rows.
            assert value.shape == ((len(ROWS), len(weights)) if stacked else (len(weights),))
        elif isinstance(value, dict):
            numbers += 1  # the state and the weights that a training begins with
        else:
            numbers += 1
            plain = [one for part in value for one in (part if isinstance(part, tuple) else (part,))]
            assert all(isinstance(one, int | float | bool) for one in plain)
            assert len(plain) <= 3 * len(ROWS)
    assert len(arrays) == 2 * 2  # two ranks, two rounds
    assert numbers == 2 * (2 + 2 * STEPS + 2)
    every = torch.cat([array.reshape(-1).float() for array in arrays])
    features = torch.cat([rows_of(silo)[0] for silo in range(len(ROWS))])
    assert not torch.isin(features.reshape(-1), every).any()


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 2), (1, 3), (3, 2)])
@pytest.mark.parametrize("done", [3, 5, 8, 10])
def test_a_state_within_a_round_goes_on(before: int, after: int, done: int) -> None:
    """Two rounds of two epochs, left after the step `done` of 20: silos may have ended their part of the epoch."""
    keys: dict[str, Any] = {"epochs": 4, "local_epochs": 2, "combine": "multi_krum", "hostile": 2}
    steps = 4 * STEPS

    def begin(communicator: Communicator) -> tuple[dict[str, Any], dict[str, Any]]:
        method, ranks = method_of(communicator, **keys), communicator.world.size
        for step, batch in zip(range(done), local_batches(ranks, communicator.world.rank, 4), strict=False):
            method.step(batch, step)
        method.collect()
        return tensors.copied(method.judged.state_dict()), tensors.copied(method.state())

    def go_on(communicator: Communicator) -> torch.Tensor:
        method, ranks = method_of(communicator, **keys), communicator.world.size
        if communicator.writes:
            method.model.load_state_dict(saved[0])
            method.load_state(saved[1])
        method.broadcast()
        for step, batch in zip(
            range(done, steps), local_batches(ranks, communicator.world.rank, 4, done), strict=True
        ):
            method.step(batch, step)
        return flat(method.model)

    saved = together(before, begin)[0][0]
    assert (saved[1]["silos"] == {}) == (done == 10)
    assert list(saved[1]["silos"]) == [str(n) for n in range(len(ROWS)) if done != 10]
    whole, _, _ = trained(before, **keys)
    for weights in together(after, go_on)[0]:
        # The stack of updates is exact, so not even the number of ranks matters.
        assert weights.equal(whole)


def test_the_silo_that_poisons_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    clean, _, _ = trained(1, combine="multi_krum", hostile=2)
    combine = Federated._combine

    def poisoned(self: Federated) -> None:
        for number in {2, 5} & self.locals.keys():
            for weight, begun in zip(self.locals[number].weights, self.parameters, strict=True):
                weight.copy_(begun - 20 * (weight - begun))
        combine(self)

    monkeypatch.setattr(Federated, "_combine", poisoned)
    weights, facts, _ = trained(2, combine="multi_krum", hostile=2)
    assert [(one["silo"], one["rows"], one["left_out"]) for one in facts["silos"]] == [
        (number, rows, 2 if number in (2, 5) else 0) for number, rows in enumerate(ROWS)
    ]
    assert facts["rounds"] == 2
    by_mean, _, _ = trained(2, combine="mean")
    assert (weights - clean).norm() < 0.5 * (by_mean - clean).norm()


def test_on_other_data_rounds_are_counted_anew(communicator: Communicator) -> None:
    method, batches = method_of(communicator, 2), list(local_batches(1, 0, 2))
    for step, batch in enumerate(batches):
        method.step(batch, step)
    assert method.facts()["federated"]["rounds"] == 2
    method.step(batches[0], len(batches), 0)
    assert (method.facts()["federated"]["rounds"], method.facts()["federated"]["silos"]) == (0, [])


def test_a_silo_whose_gradient_is_not_finite_skips_the_step(communicator: Communicator) -> None:
    method = method_of(communicator)
    batch = next(local_batches(1, 0, 1))
    batch.features["x"][0, 1] = torch.nan  # of silo 0
    others = method_of(communicator)
    without = dataclasses.replace(batch.part(8, batch.rows), silos=batch.silos[1:])
    assert not torch.isfinite(method.step(batch, 0).gradient_norm)
    assert torch.isfinite(others.step(without, 0).gradient_norm)
    for number, local in method.locals.items():
        for weight, theirs in zip(
            local.weights, others.locals[number].weights if number else BEGUN.parameters(), strict=True
        ):
            assert weight.equal(theirs)


def test_each_silo_has_a_loss_scale_of_its_own(communicator: Communicator) -> None:
    method = method_of(communicator, train={"precision": "fp16"})
    batch = next(local_batches(1, 0, 1))
    batch.features["x"][:8, 1] = 1e5  # silo 0 overflows
    result = method.step(copy.copy(batch), 0)
    scales = {number: local.scale["scale"] for number, local in method.locals.items()}
    assert result.overflow
    assert scales[0] == scales[1] / 2
    assert len({scale for number, scale in scales.items() if number}) == 1
