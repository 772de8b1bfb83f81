"""The benchmark of warm starts: what it counts, the rows of a share, and what it claims."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.methods import warm_start
from benchmarks.methods.compute import training_flops
from provenance.keys import key_sums, record_keys
from schemas import config as configuration
from schemas.manifest import Column
from schemas.models.transformer_classifier import TransformerClassifier
from tests.training.published import publish, record_ids
from training import models


def test_attention_counts_beside_matrix_products() -> None:
    rows, length, width, layers, inner, classes = 4, 8, 16, 2, 64, 3
    settings = TransformerClassifier(layers=layers, width=width, heads=4, pooling="mean")
    column = {"name": "tokens", "role": "feature", "dtype": "uint16", "shape": [length], "storage": "fixed"}
    model = models.build(settings, [Column.model_validate({**column, "vocabulary": 50})], {"logits": classes})
    found = training_flops(model, {"tokens": torch.ones(rows, length, dtype=torch.int64)})
    products = layers * rows * length * (4 * width * width + 2 * width * inner) + rows * width * classes
    # Two products of every two tokens forward; five backward, of which one computes the scores again.
    attention = layers * rows * length * length * width
    assert found == 6 * products + 2 * (2 + 5) * attention
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_share_is_the_first_shards_with_sums_of_their_own(tmp_path: Path) -> None:
    manifest = publish(tmp_path, train=((16, 16), (16, 4), (32,))).load()
    found = warm_start._first(manifest, "train", 50)  # 42 of 84 rows, of which the first shard has 32
    ids = [*record_ids("train", 0, 32), *record_ids("train", 1, 20)]
    assert (found.rows, found.epoch_rows, sum(found.label_counts.values())) == (52, 52, 52)
    assert found.key_sums == found.epoch_key_sums == key_sums(record_keys(ids))
    assert found.shards == manifest.splits["train"].shards[:2]
    assert list(found.label_counts) == list(manifest.splits["train"].label_counts)
    assert np.all(
        [found.label_counts[name] <= n for name, n in manifest.splits["train"].label_counts.items()]
    )


def test_only_given_weights_have_heads_with_a_rate_of_their_own_and_nothing_is_frozen() -> None:
    for name in set(warm_start.CELLS) - {warm_start.DEMO}:
        way, share = name.split("-")
        config = configuration.load(warm_start.CONFIG, warm_start.settings(way, int(share)))
        assert not config.train.freeze
        rates = config.optimizer.head_learning_rate, config.optimizer.learning_rate
        assert (rates[0] != rates[1]) is (way == "minilm")


def curve(*accuracies: float, step: float = 1.0) -> list[dict[str, float]]:
    return [
        {"teraflops": step * epoch, "seconds": 2 * step * epoch, "accuracy": accuracy}
        for epoch, accuracy in enumerate(accuracies, start=1)
    ]


def test_what_is_saved_is_counted_up_to_the_references_best() -> None:
    reference = {"curve": curve(0.5, 0.7, 0.8, 0.75)}
    assert warm_start.saved(reference, {"curve": curve(0.7, 0.8, step=0.3)}, "teraflops") == pytest.approx(
        0.8
    )
    assert warm_start.saved(reference, {"curve": curve(0.9, step=6)}, "seconds") == pytest.approx(-1.0)
    assert warm_start.saved(reference, {"curve": curve(0.79)}, "seconds") is None


def test_claims_follow_from_the_cells_that_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_start.KEPT, "file", tmp_path / "warm_start.json")
    cells = {}
    test: dict[str, Any] = {"figures": {"accuracy": 0.86}, "intervals": {"accuracy": [0.84, 0.88]}}
    for name, points in (
        ("random-1", curve(0.5, 0.6)),
        ("minilm-1", curve(0.65, step=0.1)),
        ("small-1", curve(0.7)),
        ("minilm-100", curve(0.8, step=440.0)),
    ):
        way = name.partition("-")[0]
        content = {"way": way, "curve": points, "test": test, "baselines": {"linear": {"accuracy": 0.7}}}
        cells[name] = content
    warm_start.KEPT.file.write_text(json.dumps(cells))
    found = warm_start.rows()
    saved = [(row["claim"].partition(" until")[0], row["measured"], row["holds"]) for row in found[:4]]
    assert saved == [
        ("operations saved by minilm", 0.95, True),
        ("seconds saved by minilm", 0.95, True),
        ("operations saved by minilm", 0.0, False),
        ("seconds saved by minilm", 0.0, False),
    ]
    few, whole = found[4:]
    assert (few["claimed"], few["measured"], few["interval"], few["holds"]) == (
        0.85,
        0.86,
        [0.84, 0.88],
        True,
    )
    assert "where the linear baseline has 0.700" in few["claim"]
    assert whole["holds"]


@pytest.mark.parametrize(
    ("seconds", "verdict", "holds"),
    [(880.0, "ahead", True), (920.0, "ahead", False), (880.0, "no difference", False)],
)
def test_the_demo_is_to_be_ahead_within_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, verdict: str, holds: bool
) -> None:
    monkeypatch.setattr(warm_start.KEPT, "file", tmp_path / "warm_start.json")
    compared = {"difference": 0.03, "interval": [0.01, 0.05], "verdict": verdict}
    demo = {
        "seconds": seconds,
        "test": {"figures": {"accuracy": 0.86}},
        "baselines": {"linear": {"accuracy": 0.83}},
        "comparisons": {"linear": {"figures": {"accuracy": compared}}},
    }
    warm_start.KEPT.file.write_text(json.dumps({"demo": demo}))
    (found,) = warm_start.rows()
    assert (found["measured"], found["interval"], found["holds"]) == (0.03, [0.01, 0.05], holds)
    assert f"0.860 after {seconds / 60:.1f}" in found["claim"]
