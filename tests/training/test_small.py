"""As little as there can be: one row, one class, splits without rows, batches larger than the data."""

import json
from pathlib import Path

import pytest
import torch

from common.errors import UsageError
from schemas.config import load
from tests.training.published import Published, publish
from training import evaluate, objectives, report, train
from training.checkpoints import store
from training.objectives import Judgement, classification


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Train on a single row, without validation and test rows, in batches that are larger than the data."""
    published = publish(tmp_path_factory.mktemp("single"), train=((1,),), validation=(), test=())
    assert train.main(["--config", str(published.config), "--run", "one"]) == 0
    return published


def test_a_single_row_is_trained_on(single: Published) -> None:
    run = single.root / "runs" / "one"
    training = json.loads((run / "summary.json").read_bytes())["training"]
    assert (training["steps"], training["samples_seen"]) == (2, 2)
    assert training["best_validation"] is None
    assert training["best_checkpoint"] == training["checkpoint"]
    assert store.best_on_disk(run) is None
    assert "validation" not in (run / "metrics.jsonl").read_text(encoding="utf-8")


def test_without_test_rows_there_are_no_figures(
    single: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--config", str(single.config), "--run", "one"]
    assert evaluate.main(flags) == 0
    assert "the test split has no rows: there is nothing to judge the model by" in capsys.readouterr().out
    run = single.root / "runs" / "one"
    section = json.loads((run / "summary.json").read_bytes())["evaluation"]
    assert (section["rows"], section["figures"], section["baselines"]) == (0, {}, {})
    assert [section[name] for name in ("accuracy", "macro_f1", "baseline_accuracy")] == [None] * 3
    assert json.loads((run / "evaluation.json").read_bytes())["model"] is None
    assert report.main(flags) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "The test split has no rows: there is nothing to judge the model by." in page
    assert "training.evaluate does that" not in page


def test_stopping_by_validation_needs_validation_rows(single: Published) -> None:
    with pytest.raises(UsageError, match=r"train\.patience stops by results on the validation split"):
        train.main(["--config", str(single.config), "--run", "two", "--set", "train.patience=1"])


def test_with_one_class_alone_there_is_nothing_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = publish(tmp_path, train=((5,),), validation=((2,),), test=((2,),), chances=(1, 0, 0))
    flags = ["--config", str(published.config), "--run", "one"]
    assert train.main(flags) == 0
    assert evaluate.main(flags) == 0
    told = capsys.readouterr().err
    assert "no baseline: the training split has only one class (alpha)" in told
    assert report.main(flags) == 0
    assert objectives.build(load(published.config), published.load(), torch.device("cpu")).baselines() == {}


def test_of_many_classes_the_linear_baseline_is_left_out_and_the_largest_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    published = publish(tmp_path)
    objective = objectives.build(load(published.config), published.load(), torch.device("cpu"))
    monkeypatch.setattr(classification, "MOST_WEIGHTS", 3 * (1 << 18) - 1)
    assert objective.baselines() == {}
    assert "no baseline: 3 classes of 262,144 hashed features are 786,432 weights" in capsys.readouterr().err
    classes = [{"label": f"c{n:05}", "rows": max(0, n - 9), "f1": 0.25} for n in range(10_000)]
    text = objective.table(Judgement(1, {"accuracy": 0.5}, {"classes": classes}), {}).splitlines()
    assert len(text) < 50
    assert any(line.startswith("c09999") for line in text)
    assert not any(line.startswith("c00000") for line in text)
    assert "10 more classes have no row in this split" in text
    assert "9,950 more classes have fewer rows; evaluation.json has their figures" in text
