"""The demo of anomalies on a slice of its real data: pipeline, training, evaluation and both reports."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.main_job import CHECKOUT, succeeded

pytestmark = (
    pytest.mark.thorough
)  # two minutes; tests/etl/test_whole_rows.py and test_reconstruction.py show each part

DATA = CHECKOUT / "data" / "shuttle" / "shuttle.csv.gz"
ROWS = 8_000
CHAIN = """
import json, sys
from common import command
from etl import pipeline
from training import evaluate, report, train
config, run = json.loads(sys.argv[1]), ["--run", "shuttle"]
assert command.run(pipeline.main, config) == 0
for main in (train.main, evaluate.main, report.main):
    assert command.run(main, [*config, *run]) == 0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the whole job in a working folder, in one process; return the folder."""
    folder = tmp_path_factory.mktemp("shuttle")
    with gzip.open(DATA, "rt", newline="") as file:
        lines = file.read().splitlines()
    (folder / "slice.csv").write_text("\n".join([lines[0], *lines[1 : ROWS + 1]]) + "\n", encoding="utf-8")
    sets = ["source.0.path=slice.csv", "train.epochs=8", "quality.max_split_deviation=1.0"]
    config = ["--config", str(CHECKOUT / "conf" / "shuttle.toml"), *(f for s in sets for f in ("--set", s))]
    done = subprocess.run(
        [sys.executable, "-c", CHAIN, json.dumps(config)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    succeeded(done)
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "runs" / "shuttle" / "summary.json").read_text("utf-8"))
    return content


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
    quality = (folder / "warehouse" / "shuttle" / "quality" / "report.html").read_text(encoding="utf-8")
    run = (folder / "runs" / "shuttle" / "report.html").read_text(encoding="utf-8")
    assert "Distribution of the columns" in quality
    assert "Scores and threshold" in run
    assert "Baseline: isolation forest" in run
