"""Reconstruction: scores, thresholds and figures by hand, and a training whose model finds the rows that are off."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import CheckError, UsageError
from schemas.config import load
from schemas.manifest import Manifest
from tests.training.published import Published
from tests.training.published_tables import CLASSES, publish_table
from training import evaluate, objectives, report
from training.anomalies import baselines
from training.anomalies.scores import (
    Floats,
    Scored,
    by_contamination,
    by_precision,
    distribution,
    figures,
    resampled,
    row_results,
)
from training.anomalies.sections import chosen
from training.comparison.assessment import assess
from training.input.batch_loader import BatchLoader
from training.input.whole_split import read_rows
from training.objectives.reconstruction import HEAD, Reconstruction
from training.parallel.world import World
from training.tracking import metrics, summary
from training.train import main

NORMAL = (
    '[objective]\nkind = "reconstruction"\nnormal = "normal"\n[model]\nkind = "autoencoder"\nbottleneck = 3\n'
)
UNLABELLED = '[objective]\nkind = "reconstruction"\ncontamination = 0.1\n[model]\nkind = "autoencoder"\n'
WHERE = 'where = {kind = "normal"}'


def scored(scores: Any, anomalous: Any = None) -> Scored:
    keys = np.arange(2 * len(scores), dtype=np.uint64).reshape(-1, 2)
    labels = None if anomalous is None else np.asarray(anomalous, bool)
    return Scored(keys, np.asarray(scores, np.float64), labels)


def random_scores(rows: int, seed: int, ties: bool = False) -> Scored:
    random = np.random.default_rng(seed)
    anomalous = random.random(rows) < 0.2
    scores = random.normal(size=rows) + 1.5 * anomalous
    return scored(scores.round(1) if ties else scores, anomalous)


def test_the_threshold_has_the_highest_recall_among_those_of_the_wanted_precision() -> None:
    #                 anomalous, from the highest score on
    some = scored([9, 8, 7, 6, 5, 4, 3], [1, 1, 0, 1, 1, 0, 0])
    found = by_precision(some, 0.8)  # 4 of 5
    assert vars(found) == {
        "value": 4.5,
        "chosen_by": "precision",
        "wanted": 0.8,
        "rows": 7,
        "precision": 0.8,
        "recall": 1.0,
    }
    found = by_precision(some, 0.97)  # 2 of 2
    assert (found.value, found.precision, found.recall) == (7.5, 1.0, 0.5)
    # Rows of one score are flagged together.
    tied = by_precision(scored([9, 8, 8, 8, 5], [1, 1, 1, 0, 0]), 0.9)
    assert tied.value == 8.5
    assert tied.recall == pytest.approx(1 / 3)


def test_where_no_threshold_reaches_the_precision_the_one_of_the_highest_f1_is_taken() -> None:
    found = by_precision(scored([9, 8, 7, 6], [0, 1, 1, 0]), 0.97)
    assert (found.value, found.chosen_by) == (6.5, "f1")
    assert found.precision == pytest.approx(2 / 3)
    assert found.recall == 1


def test_without_labels_a_share_of_the_rows_lies_above_the_threshold() -> None:
    found = by_contamination(scored(np.arange(100.0)), 0.07)
    assert (found.value, found.chosen_by, found.precision, found.recall) == (
        92.5,
        "contamination",
        None,
        None,
    )
    assert by_contamination(scored([2.0, 2.0, 2.0]), 0.1).value == 2
    with pytest.raises(ValueError, match="labelled"):
        by_precision(scored([1.0, 2.0]), 0.9)


@pytest.mark.parametrize("ties", [False, True])
def test_figures_agree_with_those_of_scikit_learn(ties: bool) -> None:
    from sklearn import metrics as known

    some = random_scores(700, 1, ties)
    assert some.anomalous is not None
    found = figures(some, 1.25)
    flagged = some.scores >= 1.25
    precision, recall, f1, _ = known.precision_recall_fscore_support(
        some.anomalous, flagged, average="binary"
    )
    assert list(found) == ["precision", "recall", "f1", "average_precision", "roc_auc", "threshold"]
    assert list(found.values()) == pytest.approx(
        [
            precision,
            recall,
            f1,
            known.average_precision_score(some.anomalous, some.scores),
            known.roc_auc_score(some.anomalous, some.scores),
            1.25,
        ]
    )


def test_what_rows_add_up_to_gives_the_figures_again() -> None:
    some = random_scores(500, 2)
    results = row_results(some, 1.25)
    sums = results.parts.T @ np.bincount(results.outcomes, minlength=results.parts.shape[0])
    found = results.figures(np.asarray(sums, np.float64)[None])
    for name, value in figures(some, 1.25).items():
        if name != "threshold":
            assert found[name][0] == pytest.approx(value), name


def test_more_distinct_scores_than_bins_are_joined_but_never_across_the_threshold() -> None:
    some = random_scores(20_000, 3)
    results = row_results(some, 1.25)
    assert results.parts.shape[1] == 2 + 2 * 4_096
    sums = np.asarray(results.parts.T @ np.bincount(results.outcomes), np.float64)
    found = results.figures(sums[None])
    exact = figures(some, 1.25)
    for name in ("precision", "recall", "f1"):
        assert found[name][0] == pytest.approx(exact[name], abs=1e-12)
    for name in ("average_precision", "roc_auc"):
        assert found[name][0] == pytest.approx(exact[name], abs=1e-3)


def test_a_draw_without_an_anomaly_has_no_recall() -> None:
    with np.errstate(all="raise"):
        found = resampled(np.array([[1.0, 0, 3, 2, 0, 0]]))
    assert np.isnan(found["recall"][0])
    assert found["precision"][0] == 0


def test_detectors_are_compared_on_the_same_rows() -> None:
    good, bad = random_scores(800, 4), random_scores(800, 4)
    bad = scored(bad.scores + np.random.default_rng(5).normal(size=800), bad.anomalous)
    found = assess([row_results(good, 1.25), row_results(bad, 1.25)])
    low, high = found.intervals[0]["roc_auc"] or (0, 0)
    assert low < figures(good, 1.25)["roc_auc"] < high
    comparison = found.comparisons[0]
    flagged = int(((good.scores >= 1.25) != (bad.scores >= 1.25)).sum())
    assert comparison.differing == flagged
    assert comparison.figures["roc_auc"].verdict == "ahead"
    assert comparison.figures["roc_auc"].test == "paired bootstrap"
    same = assess([row_results(good, 1.25), row_results(good, 1.25)]).comparisons[0]
    assert same.differing == 0
    assert {one.verdict for one in same.figures.values()} == {"no difference"}


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(CheckError, match="the model gives 1 of 2 rows a score that is not finite"):
        scored([1.0, np.nan]).checked("the model")


def test_the_distribution_counts_every_row() -> None:
    found = distribution(scored([0.0, 1e-3, 5, 7], [0, 0, 1, 1]), 100.0)
    assert {name: sum(rows) for name, rows in found["rows"].items()} == {"normal": 2, "anomalous": 2}
    assert found["edges"][-1] >= 100
    assert sum(distribution(scored([3.0, 3.0]), 3.0)["rows"]["rows"]) == 2


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish_table(tmp_path_factory.mktemp("published"), NORMAL, where=WHERE)


@pytest.fixture(scope="module")
def manifest(published: Published) -> Manifest:
    return published.load()


def built(published: Published, *overrides: str) -> Reconstruction:
    found = objectives.build(load(published.config, overrides), published.load(), torch.device("cpu"))
    assert isinstance(found, Reconstruction)
    return found


def test_the_loss_is_over_numbers_alone_and_validation_over_the_rows_that_are_trained_on(
    published: Published, manifest: Manifest
) -> None:
    objective = built(published)
    assert objective.outputs == {HEAD: 4}
    assert [column.name for column in objective.inputs] == ["a", "b", "c", "d", "town"]

    class Zero(torch.nn.Module):
        def forward(self, features: Any) -> dict[str, torch.Tensor]:
            return {HEAD: torch.zeros(len(features["a"]), 4)}

    settings = objective.config.train
    for split, taken in (("train", None), ("validation", "normal")):
        with BatchLoader(manifest, split, settings, World(0, 1)) as loader:
            for batch in loader:
                terms = objective.terms(Zero(), batch)
                numbers = torch.cat([batch.features[name] for name in "abcd"], dim=1)
                torch.testing.assert_close(terms.loss, numbers.square().mean(dim=1))
                assert batch.labels is not None
                is_taken = batch.labels == CLASSES.index("normal")
                expected = torch.ones(batch.rows) if taken is None else is_taken.float()
                assert torch.equal(terms.weight, expected)


@pytest.fixture(scope="module")
def evaluated(published: Published) -> dict[str, Any]:
    """Train on the normal rows, evaluate and report; return the summary."""
    flags = ["--config", str(published.config), "--run", "run"]
    assert main(flags) == 0
    assert evaluate.main(flags) == 0
    assert report.main(flags) == 0
    return summary.read(published.root / "runs" / "run")


def test_a_model_of_normal_rows_finds_the_others(
    published: Published, manifest: Manifest, evaluated: dict[str, Any]
) -> None:
    train = manifest.splits["train"]
    assert evaluated["training"]["samples_seen"] == 12 * train.label_counts["normal"]
    losses = [e["loss"] for e in metrics.read(published.root / "runs" / "run") if e["kind"] == "validation"]
    assert losses[-1] < losses[0]
    found = evaluated["evaluation"]
    assert list(found["figures"]) == [
        "precision",
        "recall",
        "f1",
        "average_precision",
        "roc_auc",
        "threshold",
    ]
    assert found["figures"]["roc_auc"] > 0.95
    assert set(found["intervals"]) == {*found["figures"]} - {"threshold"}
    assert set(found["baselines"]) == {"isolation_forest", "pca", "linear"}
    for name, baseline in found["baselines"].items():
        assert list(baseline) == list(found["figures"]), name
    # Anomalies lie on both sides of the rest, so a linear boundary cannot part them.
    assert found["baselines"]["linear"]["roc_auc"] < 0.9 < found["baselines"]["pca"]["roc_auc"]
    assert set(found["comparisons"]) == set(found["baselines"])
    assert "threshold" not in found["comparisons"]["pca"]["figures"]


def test_the_threshold_is_that_of_the_validation_split_and_kept_with_the_checkpoint(
    published: Published, evaluated: dict[str, Any]
) -> None:
    run = published.root / "runs" / "run"
    decision = json.loads((run / "decision.json").read_text())
    found = evaluated["evaluation"]
    assert decision["threshold"]["value"] == found["figures"]["threshold"]
    assert decision["checkpoint_sha256"] == found["checkpoint_sha256"]
    assert decision["manifest_root"] == published.load().manifest_root
    assert decision["threshold"]["rows"] == published.load().splits["validation"].rows
    assert decision["threshold"]["precision"] >= 0.97


def test_the_report_shows_scores_thresholds_and_baselines(
    published: Published, evaluated: dict[str, Any]
) -> None:
    html = (published.root / "runs" / "run" / "report.html").read_text(encoding="utf-8")
    for part in (
        "Scores and threshold",
        "the threshold of the highest recall on the 126 rows of the validation split",
        "Isolation forest",
        "Baseline: PCA",
        "training takes each row of the classes marked 1 once an epoch",
    ):
        assert part in html, part


def test_the_baselines_learn_from_the_rows_that_training_takes(
    published: Published, manifest: Manifest
) -> None:
    rows = read_rows(manifest, "train", load(published.config).storage)
    assert rows.labels is not None
    assert (rows.taken == (rows.labels == CLASSES.index("normal"))).all()
    assert int(rows.taken.sum()) == manifest.splits["train"].epoch_rows
    matrix = rows.matrix([c for c in manifest.content.columns if c.role == "feature"])
    assert matrix.shape == (manifest.splits["train"].rows, 4 + 4)
    assert (matrix[:, 4:].sum(axis=1) == 1).all()


def test_without_labels_no_precision_is_claimed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = publish_table(tmp_path, UNLABELLED, labelled=False)
    flags = ["--config", str(plain.config), "--run", "run"]
    assert main([*flags, "--set", "train.epochs=2"]) == 0
    assert evaluate.main(flags) == 0
    assert report.main(flags) == 0
    found = summary.read(tmp_path / "runs" / "run")["evaluation"]
    assert list(found["figures"]) == ["flagged_share", "mean_score", "threshold"]
    assert found["baselines"] == {}
    assert "no baseline" in capsys.readouterr().err
    html = (tmp_path / "runs" / "run" / "report.html").read_text(encoding="utf-8")
    assert "10% of the 126 rows of the validation split" in html
    assert "Without labels nothing is known of the precision" in html


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ('objective.normal="norml"', r"names the class 'norml'.*did you mean 'normal'"),
        ('objective.normal=["normal", "x"]', "names the class 'x'"),
    ],
)
def test_a_class_that_is_not_there_is_refused(published: Published, override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        built(published, override)


def test_a_data_set_that_cannot_be_judged_is_refused(
    tmp_path: Path, manifest: Manifest, published: Published
) -> None:
    plain = publish_table(tmp_path, UNLABELLED, labelled=False)
    with pytest.raises(UsageError, match="has no label column"):
        built(plain, 'objective.normal="normal"')
    config = load(published.config)
    columns = [c for c in manifest.content.columns if c.dtype != "float32"]
    content = manifest.content.model_copy(update={"columns": columns})
    with pytest.raises(UsageError, match="gives back numbers, and the data set has none"):
        Reconstruction(config, manifest.model_copy(update={"content": content}), torch.device("cpu"))
    splits = {**manifest.splits, "validation": manifest.splits["validation"].model_copy(update={"rows": 0})}
    content = manifest.content.model_copy(update={"splits": splits})
    with pytest.raises(UsageError, match="chooses its threshold on the validation split"):
        Reconstruction(config, manifest.model_copy(update={"content": content}), torch.device("cpu"))


def test_a_split_without_anomalies_has_no_precision(
    published: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    objective = built(published)
    rows: Floats = np.arange(20.0)
    found = objective.judged(scored(rows, rows > 18), scored(rows, rows < 0))
    assert found.figures == {"flagged_share": 0.05, "mean_score": 9.5, "threshold": 18.5}
    assert found.results is None
    found = objective.judged(scored(rows, rows < 0), scored(rows, rows > 18))
    assert found.figures["recall"] == 1
    assert "no anomaly to choose a threshold by" in capsys.readouterr().err
    threshold = found.details["threshold"]
    assert "The validation split has no anomaly: nothing is known" in chosen(threshold, labelled=True)
    assert "Without labels nothing is known" in chosen(threshold, labelled=False)


def test_as_many_components_as_give_rows_back_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "_best", lambda _, candidates, __: candidates[-1])
    random = np.random.default_rng(0)
    towns = np.eye(3)[random.integers(0, 3, 200)]
    rows = np.column_stack([random.normal(size=200), towns]).astype(np.float32)

    def fitted(columns: int) -> baselines.Detector | None:
        keys, taken = np.zeros((200, 2), np.uint64), np.ones(200, bool)
        return baselines.pca(
            baselines.Splits({"train": rows[:, :columns]}, {"train": ~taken}, {"train": keys}, taken)
        )

    found = fitted(4)
    assert found is not None
    assert found.details["components"] == 2  # the three columns of the town add up to 1
    assert np.max(found.scores(rows)) > 1e-3
    assert fitted(1) is None
