"""Scores against hand-computed figures, and the command on a run trained in a moment."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from common.errors import UsageError
from schemas.config import load
from tests.training.published import CLASSES, Published, publish, publish_again
from tests.training.test_baseline import with_texts
from training import evaluate, models
from training.checkpoints import store, tensors
from training.classification.scores import ClassScores, scores
from training.input.batch_loader import columns_of


def test_scores_are_those_computed_by_hand() -> None:
    #          predicted: a  b  c
    # a (4 rows)          3  1  0
    # b (3 rows)          1  2  0
    # c (1 row)           1  0  0
    # d (no row)
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    predicted = np.array([0, 0, 0, 1, 0, 1, 1, 0])
    found = scores(labels, predicted, ["a", "b", "c", "d"])
    pairs = {"true": [0, 0, 1, 1, 2], "predicted": [0, 1, 0, 1, 0], "rows": [3, 1, 1, 2, 1]}
    assert found.confusion == pairs
    assert found.accuracy == pytest.approx(5 / 8)
    assert [c.precision for c in found.classes[:3]] == pytest.approx([3 / 5, 2 / 3, 0])
    assert [c.recall for c in found.classes[:3]] == pytest.approx([3 / 4, 2 / 3, 0])
    assert [c.f1 for c in found.classes[:3]] == pytest.approx([2 / 3, 2 / 3, 0])
    # Of a class without rows 0 would be no result.
    assert found.classes[3] == ClassScores("d", 0, None, None, None)
    assert [c.rows for c in found.classes] == [4, 3, 1, 0]
    # d does not occur, so it has no weight.
    assert found.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert found.macro_precision == pytest.approx((3 / 5 + 2 / 3) / 3)
    assert found.macro_recall == pytest.approx((3 / 4 + 2 / 3) / 3)


def matrix(pairs: dict[str, list[int]], classes: int) -> npt.NDArray[np.int64]:
    """Return the confusion matrix with the given pairs of classes: (classes, classes)."""
    dense = np.zeros((classes, classes), np.int64)
    dense[pairs["true"], pairs["predicted"]] = pairs["rows"]
    return dense


def test_scores_agree_with_those_of_scikit_learn() -> None:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    random = np.random.default_rng(0)
    labels, predicted = random.integers(0, 5, 500), random.integers(0, 5, 500)
    found = scores(labels, predicted, list("abcde"))
    expected = precision_recall_fscore_support(labels, predicted)
    assert [c.precision for c in found.classes] == pytest.approx(list(expected[0]))
    assert [c.recall for c in found.classes] == pytest.approx(list(expected[1]))
    assert [c.f1 for c in found.classes] == pytest.approx(list(expected[2]))
    assert matrix(found.confusion, 5).tolist() == confusion_matrix(labels, predicted).tolist()


def test_scores_of_ten_thousand_classes_take_no_matrix_of_them() -> None:
    labels = np.arange(20_000) % 10_000
    names = [f"c{place}" for place in range(10_000)]
    found = scores(labels, np.where(labels < 100, (labels + 1) % 10_000, labels), names)
    assert found.accuracy == pytest.approx(0.99)
    assert len(found.confusion["rows"]) == 10_000
    assert sum(found.confusion["rows"]) == 20_000


def test_no_rows_have_no_scores() -> None:
    empty = np.zeros(0, np.int64)
    found = scores(empty, empty, ["a"])
    assert (found.rows, found.accuracy, found.macro_f1) == (0, 0.0, 0.0)
    with pytest.raises(ValueError, match="labels, but"):
        scores(empty, np.zeros(1, np.int64), ["a"])


def untrained_run(published: Published, root: str | None = None) -> Path:
    """Make the run `demo` with a checkpoint of an untrained model with fixed weights."""
    config, manifest = load(published.config), published.load()
    features = [column for column in columns_of(manifest) if column.role == "feature"]
    torch.manual_seed(0)
    model = models.build(config.model, features, {"logits": len(CLASSES)})
    run = Path(config.train.runs) / "demo"
    sealed = root or manifest.manifest_root
    state = {
        "format_version": store.FORMAT_VERSION,
        "manifest_root": sealed,
        "step": 3,
        "position": 48,
        "model": model.state_dict(),
        "decisive": json.dumps(store.decisive(config)),
    }
    facts = {
        "configuration_sha256": config.sha256(),
        "epoch": 0,
        "finished": True,
        "world_size": 1,
        "validation_loss": None,
        "seconds": 1.0,
        "seconds_waited": 0.0,
    }
    store.save(run, tensors.copied(state), None, facts)
    return run


def test_the_command_writes_both_files_and_prints_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = publish(tmp_path)
    with_texts(published)
    run = untrained_run(published)
    flags = ["--config", str(published.config), "--run", "demo"]
    assert evaluate.main(flags) == 0
    section = json.loads((run / "summary.json").read_text())["evaluation"]
    assert section["baseline_accuracy"] == section["baseline_macro_f1"] == 1.0
    document = json.loads((run / "evaluation.json").read_text())
    confusion = matrix(document["model"]["details"]["confusion"], len(CLASSES))
    assert confusion.sum() == section["rows"] == 20
    assert section["accuracy"] == pytest.approx(np.trace(confusion) / 20)
    assert confusion.sum(axis=1).tolist() == list(published.load().splits["test"].label_counts.values())
    assert document["checkpoint_sha256"] == section["checkpoint_sha256"]
    assert document["baselines"]["linear"]["details"]["converged"] is True
    assert section["figures"] == document["model"]["figures"]
    assert section["baselines"] == {"linear": document["baselines"]["linear"]["figures"]}
    assert (section["objective"], section["split"]) == ("classification", "test")
    assert section["checkpoint"] == "step-00000003.pt"
    shown = capsys.readouterr().out
    assert f"{section['accuracy']:.3f}" in shown
    assert "baseline" in shown
    compared = section["comparisons"]["linear"]
    assert (compared["rows"], compared["unit"], compared["units"]) == (20, "row", 20)
    assert (
        compared["figures"]["accuracy"]["verdict"] == "behind"
    )  # an untrained model, beside one that knows all
    assert len(document["baselines"]["linear"]["comparison"]["by_value"]["f1"]) == len(CLASSES)
    assert section["intervals"]["accuracy"][0] < section["accuracy"] < section["intervals"]["accuracy"][1]
    assert "model less linear: difference, 95% interval, and whether 20 rows can show it" in shown
    assert "behind (McNemar, p" in shown
    # Neither the order of the rows nor the size of a batch changes anything.
    assert evaluate.main([*flags, "--set", "evaluate.batch=7", "--set", "evaluate.baseline=false"]) == 0
    again = json.loads((run / "summary.json").read_text())["evaluation"]
    assert again["accuracy"] == section["accuracy"]
    assert again["baseline_accuracy"] is None


def test_the_model_is_the_trained_one_whatever_the_configuration_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = publish(tmp_path)
    run = untrained_run(published)
    flags = ["--config", str(published.config), "--run", "demo", "--set", "evaluate.baseline=false"]
    assert evaluate.main([*flags, "--set", "model.layers=3"]) == 0
    given = run / "checkpoints" / "step-00000003.pt"
    for name in (str(given), given.name):
        assert evaluate.main([*flags, "--checkpoint", name]) == 0
        assert f"takes the checkpoint {given}, as told" in capsys.readouterr().err


def test_another_manifest_is_refused(tmp_path: Path) -> None:
    published = publish(tmp_path)
    untrained_run(published, root="f" * 64)
    with pytest.raises(UsageError, match=r"was trained on the manifest root f{16}…, but .* --manifest"):
        evaluate.main(["--config", str(published.config), "--run", "demo"])


def test_a_run_on_an_earlier_version_is_evaluated_on_it_by_its_number(tmp_path: Path) -> None:
    published = publish(tmp_path)
    run = untrained_run(published)
    publish_again(published)
    flags = ["--config", str(published.config), "--run", "demo", "--set", "evaluate.baseline=false"]
    assert evaluate.main([*flags, "--version", "0"]) == 0
    assert json.loads((run / "summary.json").read_text())["evaluation"]["rows"] == 20
    with pytest.raises(UsageError, match="was trained on the manifest root"):
        evaluate.main([*flags, "--version", "1"])


def test_a_run_without_a_checkpoint_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    published = publish(tmp_path)
    flags = ["--config", str(published.config), "--run", "demo"]
    with pytest.raises(UsageError, match=r"has no checkpoint in .*train it first"):
        evaluate.main(flags)
    with pytest.raises(UsageError, match=r"there is no checkpoint .*nowhere\.pt', neither here nor in "):
        evaluate.main([*flags, "--checkpoint", str(tmp_path / "nowhere.pt")])
