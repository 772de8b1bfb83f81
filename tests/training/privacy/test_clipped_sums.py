"""Sums of clipped gradients against a reference: autograd's dense gradient of each row, clipped on its own."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from schemas.manifest import FIXED, Column
from schemas.models.autoencoder import Autoencoder
from schemas.models.cnn import Cnn
from schemas.models.mlp import Mlp
from schemas.models.transformer_classifier import TransformerClassifier
from training import models
from training.input.batch_loader import LocalBatch
from training.models import Feature
from training.objectives.classification import Classification
from training.parallel.gradients import TABLE_ROWS
from training.privacy import clipped_sums
from training.privacy.clipped_sums import ClippedSums

ROWS, CLASSES, LENGTH = 7, 3, 12


class Classes(Classification):
    """The objective without a data set."""

    def __init__(self, weights: torch.Tensor | None = None) -> None:
        self.class_weights, self.weighted = weights, weights is not None
        self.outputs = {"logits": CLASSES}
        self.portions = {"train": torch.ones(CLASSES)}


def column(name: str, dtype: str, shape: list[int], **more: Any) -> Column:
    return Column(name=name, role="feature", dtype=dtype, shape=shape, storage=FIXED, **more)


IMAGE = Feature(
    **column("x", "uint8", [8, 8, 1]).model_dump(), statistics={"mean": [100.0], "deviation": [50.0]}
)
TABLE = [column("x", "float32", [6]), column("y", "int32", [1], vocabulary=9)]
MODELS: dict[str, tuple[Any, list[Column], clipped_sums.Way]] = {
    "cnn": (Cnn(channels=[8], dropout=0.0), [IMAGE], "vmap"),
    "mlp": (Mlp(widths=[16], dropout=0.0), TABLE, "vmap"),
    "autoencoder": (Autoencoder(widths=[8], bottleneck=2), TABLE, "vmap"),
    "transformer": (
        TransformerClassifier(layers=1, width=16, heads=2, dropout=0.0),
        [column("x", "int32", [LENGTH], vocabulary=TABLE_ROWS)],
        "loop",
    ),
}


def of_kind(kind: str, settings: Any = None) -> tuple[nn.Module, LocalBatch]:
    torch.manual_seed(0)
    default, columns, _ = MODELS[kind]
    model = models.build(settings or default, columns, {"logits": CLASSES})
    features = {}
    for one in columns:
        most = one.vocabulary or 256
        given = torch.randint(1, most, (ROWS, *one.shape)) if one.dtype != "float32" else torch.randn(ROWS, 6)
        features[one.name] = given.to(getattr(torch, one.dtype))
    if kind == "transformer":
        # A token that occurs twice in a row, and a row of few.
        features["x"][0, 5:], features["x"][0, 1] = 0, features["x"][0, 0]
    labels = torch.arange(ROWS) % CLASSES
    return model, LocalBatch(features, labels, np.zeros((ROWS, 2), np.uint64), None, ROWS, ROWS, 0, ROWS)


def reference(
    model: nn.Module, batch: LocalBatch, limit: float, weights: torch.Tensor | None
) -> torch.Tensor:
    total = torch.zeros(sum(p.numel() for p in model.parameters()))
    for row in range(batch.rows):
        model.zero_grad()
        terms = Classes(weights).terms(model, batch.part(row, row + 1))
        (terms.loss * terms.weight).sum().backward()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
        whole = torch.cat([one.flatten() for one in gradients]).double()
        total += whole * min(1.0, limit / float(whole.norm()))
    return total


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 4.0])])
@pytest.mark.parametrize("kind", MODELS)
def test_both_ways_give_the_sum_of_clipped_rows(kind: str, weights: torch.Tensor | None) -> None:
    model, batch = of_kind(kind)
    norms = [float(reference(model, batch.part(row, row + 1), 1e9, weights).norm()) for row in range(ROWS)]
    limit = float(np.median(norms))  # some rows are clipped, others are not
    right = reference(model, batch, limit, weights)
    ways: list[clipped_sums.Way] = ["vmap", "loop"] if MODELS[kind][2] == "vmap" else ["loop"]
    for way in ways:
        sums = ClippedSums(model, Classes(weights), limit)
        sums.way = way
        found = sums.of(batch)
        assert float((found - right).norm() / right.norm()) < 1e-6
        for view, parameter in zip(sums.views(found), model.parameters(), strict=True):
            assert view.shape == parameter.shape


@pytest.mark.parametrize("kind", MODELS)
def test_vmap_is_taken_where_the_model_allows_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = of_kind(kind)
    right = reference(model, batch, 0.1, None)
    monkeypatch.setattr(clipped_sums, "CHUNK_NUMBERS", 3 * sum(p.numel() for p in model.parameters()))
    sums = ClippedSums(model, Classes(), 0.1)
    assert float((sums.of(batch) - right).norm() / right.norm()) < 1e-6
    assert sums.way == MODELS[kind][2]


@pytest.mark.parametrize("way", ["vmap", "loop"])
def test_no_row_adds_more_than_the_limit(way: clipped_sums.Way) -> None:
    model, batch = of_kind("mlp")
    sums = ClippedSums(model, Classes(), 0.25)
    sums.way = way
    for row in range(ROWS):
        assert float(sums.of(batch.part(row, row + 1)).norm()) <= 0.25 * (1 + 1e-6)
    assert float(sums.of(batch).norm()) <= 0.25 * ROWS
    assert not sums.of(batch.part(0, 0)).any()


@pytest.mark.parametrize("way", ["vmap", "loop"])
def test_a_row_that_is_not_finite_adds_nothing(way: clipped_sums.Way) -> None:
    model, batch = of_kind("mlp")
    sums = ClippedSums(model, Classes(), 0.25)
    sums.way = way
    right = sums.of(batch.part(1, ROWS))
    damaged = batch.features["x"].clone()
    damaged[0, 0] = torch.inf
    found = sums.of(dataclasses.replace(batch, features={**batch.features, "x": damaged}))
    torch.testing.assert_close(found, right)


@pytest.mark.parametrize("kind", ["mlp", "transformer"])
def test_dropout_of_a_row_follows_from_seed_and_key_alone(kind: str) -> None:
    settings = MODELS[kind][0].model_copy(update={"dropout": 0.5})
    model, batch = of_kind(kind, settings)
    batch = dataclasses.replace(batch, keys=np.arange(2 * ROWS, dtype=np.uint64).reshape(ROWS, 2))
    sums = ClippedSums(model.train(), Classes(), 1e9)
    whole = sums.of(batch, 1)
    assert sums.way == "loop"
    parted = sums.of(batch.part(0, 2), 1) + sums.of(batch.part(2, ROWS), 1)
    torch.testing.assert_close(whole, parted, rtol=1e-5, atol=1e-5)
    # Another content of the first row, in a transformer also of another length, changes nothing for the others.
    other = {name: values.clone() for name, values in batch.features.items()}
    for values in other.values():
        values[0, 1:] = values[0, :1]
    other["x"][0, 2:] = 0
    changed = dataclasses.replace(batch, features=other)
    rest = sums.of(changed, 1) - sums.of(changed.part(0, 1), 1)
    torch.testing.assert_close(rest, sums.of(batch.part(1, ROWS), 1), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(whole, sums.of(batch, 2))
    same = torch.zeros(ROWS, dtype=torch.int64)
    equal = {name: values[same] for name, values in batch.features.items()}
    found = sums.of(dataclasses.replace(batch, features=equal, labels=same), 1)
    assert not torch.allclose(found, ROWS * sums.of(batch.part(0, 1), 1))


@pytest.mark.parametrize("kind", ["mlp", "transformer"])
def test_bfloat16_rounds_no_sum_of_rows(kind: str) -> None:
    model, batch = of_kind(kind)
    sums = ClippedSums(model, Classes(), 0.25)
    with torch.autocast("cpu", torch.bfloat16):
        whole = sums.of(batch)
        rows = [sums.of(batch.part(row, row + 1)) for row in range(ROWS)]
    assert max(float(row.norm()) for row in rows) <= 0.25 * (1 + 1e-6)
    assert float((whole - torch.stack(rows).sum(0)).norm()) < 1e-5 * float(whole.norm())


class Slope(nn.Module):
    """Model whose gradient is the same in very many numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(10_000_000))

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"logits": self.weight.sum() * torch.tensor([[1.0, 0.0, 0.0]])}


@pytest.mark.parametrize("way", ["vmap", "loop"])
def test_the_norm_of_many_numbers_is_exact(way: clipped_sums.Way) -> None:
    batch = of_kind("mlp")[1].part(0, 1)
    sums = ClippedSums(Slope(), Classes(), 0.25)
    sums.way = way
    assert float(sums.of(batch).double().norm()) == pytest.approx(0.25, rel=2e-5)
