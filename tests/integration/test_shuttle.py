"""The demo of anomalies on a slice of its real data: pipeline, training, evaluation and both reports."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.demo import reports_of, run_demo, summary_of

pytestmark = (
    pytest.mark.thorough
)  # two minutes; tests/etl/test_whole_rows.py and test_reconstruction.py show each part

ROWS = 8_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the whole job; return the folder."""
    folder = tmp_path_factory.mktemp("shuttle")
    run_demo(
        folder,
        "shuttle",
        "shuttle/shuttle.csv.gz",
        lambda lines: lines[: ROWS + 1],
        ["train.epochs=8", "quality.max_split_deviation=1.0"],
    )
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    return summary_of(folder, "shuttle")


def test_every_row_is_published_and_training_takes_the_normal_ones(results: dict[str, Any]) -> None:
    data = results["dataset"]
    assert data["records_in"] == data["published"] == ROWS
    assert results["training"]["samples_seen"] < 8 * data["splits"]["train"]


def test_anomalies_are_found_and_baselines_judged_beside(results: dict[str, Any]) -> None:
    found = results["evaluation"]
    assert list(found["figures"]) == [
        "precision",
        "recall",
        "f1",
        "average_precision",
        "roc_auc",
        "threshold",
    ]
    assert list(found["baselines"]) == ["isolation_forest", "pca", "linear"]
    # A threshold that some 60 anomalies choose is off by several points.
    assert found["figures"]["precision"] > 0.85
    assert found["figures"]["recall"] > 0.9
    assert all(one["roc_auc"] > 0.97 for one in (found["figures"], *found["baselines"].values()))


def test_both_reports_show_the_columns_and_the_scores(folder: Path) -> None:
    quality, run = reports_of(folder, "shuttle")
    assert "Distribution of the columns" in quality
    assert "Scores and threshold" in run
    assert "Baseline: isolation forest" in run
