"""The demo of images on a slice of its real data: pipeline, training, evaluation and both reports."""

from pathlib import Path

import pytest

from tests.integration.demo import reports_of, run_demo, summary_of

pytestmark = pytest.mark.thorough  # two minutes; test_images.py and tests/training/test_cnn.py show each part

ROWS = 1_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the whole job on every fifth digit; return the folder."""
    folder = tmp_path_factory.mktemp("digits")
    run_demo(
        folder,
        "digits",
        "digits/mnist_5k.csv.gz",
        lambda lines: lines[::5],  # they are sorted by digit
        ["train.epochs=6", "quality.max_split_deviation=1.0"],
    )
    return folder


def test_every_digit_is_published_and_the_model_is_ahead_of_its_baseline(folder: Path) -> None:
    found = summary_of(folder, "digits")
    data, evaluation = found["dataset"], found["evaluation"]
    assert data["records_in"] == data["published"] == ROWS
    assert found["training"]["samples_seen"] == 6 * data["splits"]["train"]
    assert list(evaluation["baselines"]) == ["linear"]
    figures, baseline = evaluation["figures"], evaluation["baselines"]["linear"]
    assert {"accuracy", "macro_f1"} <= figures.keys()
    assert figures["accuracy"] > 0.8
    assert baseline["accuracy"] > 0.7


def test_both_reports_show_pictures(folder: Path) -> None:
    quality, run = reports_of(folder, "digits")
    assert quality.count("data:image/png;base64,") >= 10
    for title in ("Most confident mistakes", "Augmented rows", "Confusion matrix"):
        assert title in run
    assert run.count("data:image/png;base64,") > 10
