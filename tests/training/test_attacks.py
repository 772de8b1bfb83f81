"""Adversarial training over whole runs: resumed bit for bit, chosen, judged and shown under attack."""

import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import UsageError
from tests.training.published import Published, publish
from tests.training.published_images import publish_images
from tests.training.published_tables import publish_table
from tests.training.runs import result
from training import evaluate, report
from training.checkpoints import store
from training.tracking import metrics, summary
from training.train import main

ADVERSARIAL = ("method.kind=adversarial", "method.epsilon=0.1")
TABLES = {
    "regression": '[objective]\nkind = "regression"\ntarget = "d"\n[model]\nkind = "mlp"\nwidths = [8]\n',
    "reconstruction": '[objective]\nkind = "reconstruction"\n[model]\nkind = "autoencoder"\nwidths = [8]\n',
}


def flags(published: Published, run: str, *pairs: str) -> list[str]:
    return ["--config", str(published.config), "--run", run, *(f for pair in pairs for f in ("--set", pair))]


def folder(published: Published, run: str) -> Path:
    return published.root / "runs" / run


def judged(published: Published, run: str, *pairs: str) -> dict[str, Any]:
    """Evaluate a run; return evaluation.json."""
    assert evaluate.main(flags(published, run, "evaluate.baseline=false", *pairs)) == 0
    found: dict[str, Any] = json.loads((folder(published, run) / "evaluation.json").read_bytes())
    return found


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Publish images and train on them, plainly and under attack."""
    published = publish_images(tmp_path_factory.mktemp("images"))
    assert main(flags(published, "plain")) == 0
    assert main(flags(published, "robust", *ADVERSARIAL, "augment.flip=0.1")) == 0
    return published


def test_a_resumed_run_equals_the_uninterrupted_one(images: Published) -> None:
    """In the middle of the ramp, with half of the loss from clean rows."""
    ways = [*ADVERSARIAL, "method.attack=pgd", "method.steps=2", "method.clean=0.5", "train.precision=bf16"]
    ways += ["train.accumulate=2", "train.ema_decay=0.9", "model.checkpoint_layers=true"]
    assert main(flags(images, "whole", *ways)) == 0
    assert main([*flags(images, "resumed", *ways), "--stop-after", "11"]) == 0
    assert main([*flags(images, "resumed", *ways), "--resume"]) == 0
    for key in ("weights_sha256", "checkpoint_sha256"):
        assert result(images, "resumed")[key] == result(images, "whole")[key]
    assert result(images, "whole")["adversarial"] == {
        "attack": "pgd",
        "epsilon": 0.1,
        "steps": 2,
        "step_size": pytest.approx(0.125),
    }


def test_the_best_checkpoint_is_the_best_under_attack(images: Published) -> None:
    """By the clean figures it could be one from before ε had grown."""
    record = store.best_on_disk(folder(images, "robust"))
    assert record is not None
    assert record.judged_by is not None
    assert record.judged_by.name == "attacked_balanced_accuracy"
    entries = [e for e in metrics.read(folder(images, "robust")) if e["kind"] == "validation"]
    best = max(entry["attacked_balanced_accuracy"] for entry in entries)
    assert record.judged_by.value == pytest.approx(best)
    assert all(entry["attacked_loss"] >= entry["loss"] for entry in entries)


def test_a_robust_run_is_always_judged_under_attack(
    images: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    found = judged(images, "robust")["attacks"]
    shown = capsys.readouterr().out
    assert "accuracy of 60 rows under attacks within ε = 0.1" in shown
    assert "PGD-20, 2 starts" in shown
    clean, fgsm, pgd = (found[name]["accuracy"] for name in ("clean", "fgsm", "pgd"))
    assert clean >= fgsm >= pgd
    assert found["pgd"]["interval"][0] < pgd < found["pgd"]["interval"][1]
    section = summary.read(folder(images, "robust"))["evaluation"]
    assert section["attacks"]["pgd"]["accuracy"] == pgd
    assert section["attacks"]["fgsm"] | {"interval": None} == {
        "epsilon": 0.1,
        "steps": 1,
        "step_size": 0.1,
        "restarts": 0,
        "rows": 60,
        "accuracy": fgsm,
        "clean_accuracy": section["accuracy"],
        "interval": None,
    }
    assert section["attacks"]["pgd"]["steps"] == 20
    # Another batch size sees the same starts, and other rows are other rows.
    assert judged(images, "robust", "evaluate.batch=7")["attacks"] == found
    fewer = judged(images, "robust", "evaluate.attack_rows=25")["attacks"]
    assert (fewer["rows"], fewer["split_rows"]) == (25, 60)


def test_what_was_trained_plainly_falls_where_the_robust_withstands(images: Published) -> None:
    assert "attacks" not in judged(images, "plain")
    plain = judged(images, "plain", "evaluate.attack_epsilon=0.1")["attacks"]
    robust = judged(images, "robust")["attacks"]
    assert plain["pgd"]["accuracy"] < plain["clean"]["accuracy"]
    assert robust["pgd"]["accuracy"] >= plain["pgd"]["accuracy"]
    gentle = judged(images, "plain", "evaluate.attack_epsilon=0.01")["attacks"]
    assert gentle["pgd"]["accuracy"] >= plain["pgd"]["accuracy"]


def test_examples_are_shown_as_pictures(images: Published) -> None:
    found = judged(images, "plain", "evaluate.attack_epsilon=0.1")["attacks"]
    assert 0 < len(found["examples"]) <= 8
    first = found["examples"][0]
    assert first["lost"]
    assert first["clean"] == first["true"] != first["attacked"]
    assert len(set(first["pictures"])) == 3
    assert report.main(flags(images, "plain")) == 0
    page = (folder(images, "plain") / "report.html").read_text(encoding="utf-8")
    assert "Under attack, ε = 0.1" in page
    assert "each level by at most 10% of the range" in page
    assert f"taken for {first['attacked']}" in page
    assert first["pictures"][2] in page


def test_a_regression_is_judged_by_its_error(tmp_path: Path) -> None:
    published = publish_table(tmp_path, TABLES["regression"])
    assert main(flags(published, "run", *ADVERSARIAL, "train.epochs=2")) == 0
    found = judged(published, "run")["attacks"]
    assert found["clean"]["mae"] < found["fgsm"]["mae"] <= found["pgd"]["mae"]
    assert found["moved"] == {"a": "numbers", "b": "numbers", "c": "numbers"}
    assert found["examples"] == []


def test_a_reconstruction_is_trained_under_attack_but_not_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = publish_table(tmp_path, TABLES["reconstruction"])
    assert main(flags(published, "run", *ADVERSARIAL, "train.epochs=1")) == 0
    assert "attacks" not in judged(published, "run")
    assert "note: the model is not judged under attack, since objective.kind = 'reconstruction'" in (
        capsys.readouterr().err
    )
    with pytest.raises(
        UsageError, match=r"evaluate\.attack_epsilon: objective\.kind = 'reconstruction' has no figure"
    ):
        judged(published, "run", "evaluate.attack_epsilon=0.1")


def test_texts_are_attacked_behind_their_embeddings(tmp_path: Path) -> None:
    published = publish(tmp_path)
    ways = ("method.kind=adversarial", "method.epsilon=0.5", "train.epochs=1", "train.gradients=flat")
    assert main(flags(published, "run", *ways)) == 0
    found = judged(published, "run", "evaluate.attack_rows=10", "evaluate.attack_steps=3")["attacks"]
    assert found["moved"] == {"tokens": "embedding"}
    assert found["rows"] == 10
    assert report.main(flags(published, "run")) == 0
    page = (folder(published, "run") / "report.html").read_text(encoding="utf-8")
    assert "certifies nothing about edited texts" in page
