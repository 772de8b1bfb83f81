"""The run report: self-contained, with the figures whether good or bad."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from common.errors import DataError, UsageError
from common.pages.page import Table, Text
from tests.training.published import Published, publish
from tests.training.test_baseline import with_texts
from tests.training.test_evaluate import untrained_run
from training import evaluate, report
from training.classification.sections import against_baseline
from training.reporting import sections
from training.tracking import non_finite


def flags(published: Published) -> list[str]:
    return ["--config", str(published.config), "--run", "demo"]


def finished_run(tmp_path: Path) -> tuple[Published, Path]:
    """Make a run with every file that training and evaluation leave behind, and a name that needs escaping."""
    published = publish(tmp_path)
    manifest, _, _ = with_texts(published)
    run = untrained_run(published)
    began = {
        "command": "horovodrun -np 2 python -m training.train --config '<script>x</script>'",
        "folder": "/somewhere",
        "manifest": str(published.manifest),
        "manifest_root": manifest.manifest_root,
        "configuration": {
            "objective": {"kind": "classification"},
            "model": {"layers": 1},
            "method": {"kind": "plain"},
            "optimizer": {"kind": "adamw"},
            "train": {"epochs": 2},
        },
        "environment": {"python": "3.11", "world_size": 2},
    }
    (run / "run.json").write_text(json.dumps(began), encoding="utf-8")
    entries = [
        {"step": step, "kind": "train", "loss": 2.0 / step, "learning_rate": 0.1, "gradient_norm": 1.0}
        | {"samples_per_second": 100.0, "input_wait_share": 0.02}
        for step in range(1, 6)
    ] + [{"step": 5, "kind": "validation", "loss": 0.6, "accuracy": 0.75}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries), encoding="utf-8")
    training: dict[str, Any] = {"world_size": 2, "epochs": 2, "steps": 5, "samples_seen": 346, "seconds": 3.2}
    training |= {"samples_per_second": 108.1, "input_wait_share": 0.0212, "checkpoint": "step-00000003.pt"}
    training |= {"checkpoint_sha256": "c" * 64, "weights_sha256": "d" * 64}
    training |= {
        "checkpoint_chain": "e" * 64,
        "batches_skipped": 1,
        "stopped_early": True,
        "epochs_completed": 1,
    }
    training |= {"best_checkpoint": "step-00000003.pt", "best_step": 3, "best_checkpoint_sha256": "b" * 64}
    training |= {"best_validation": {"accuracy": 0.75}}
    non_finite.write(run, non_finite.NonFiniteBatch(3, 1, 128, [f"id-{number}" for number in range(10)]))
    (run / "summary.json").write_text(json.dumps({"training": training}), encoding="utf-8")
    return published, run


def test_the_whole_report(tmp_path: Path) -> None:
    published, run = finished_run(tmp_path)
    assert evaluate.main(flags(published)) == 0
    assert report.main(flags(published)) == 0
    html = (run / "report.html").read_text(encoding="utf-8")
    targets = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)""", html)
    assert [target for target in targets if not target.startswith("#")] == []
    assert not re.search(r"@import|<link|<script|<img|url\((?!#)", html)
    assert "&lt;script&gt;x&lt;/script&gt;" in html
    assert html.count("<svg") == 6  # loss, accuracy, learning rate, gradient norm, throughput, waiting
    for pinned in (published.load().manifest_root, "c" * 64, "d" * 64, "e" * 64, "horovodrun -np 2"):
        assert pinned in html
    assert "Batches without a finite loss" in html
    assert "Class balance of the training split" in html
    assert "training takes each row once an epoch, and all rows count alike" in html
    assert "id-7 …" in html
    assert "stopped early, after 1 of 2 epochs" in html
    assert "of step 3, by validation accuracy 0.750" in html
    summary = json.loads((run / "summary.json").read_text())
    assert f"{summary['evaluation']['accuracy']:.3f}" in html
    assert summary["reports"] == {
        "quality": f"{published.load().dataset_uri}/quality/report.html",
        "run": str(run / "report.html"),
    }
    before = html
    assert report.main(flags(published)) == 0
    assert (run / "report.html").read_text(encoding="utf-8") == before


def test_a_run_that_was_not_evaluated_says_so(tmp_path: Path) -> None:
    published, run = finished_run(tmp_path)
    assert report.main(flags(published)) == 0
    html = (run / "report.html").read_text(encoding="utf-8")
    assert sections.NOT_EVALUATED in html
    assert "Confusion matrix" not in html


def test_a_run_of_an_earlier_version_is_named(tmp_path: Path) -> None:
    published, run = finished_run(tmp_path)
    began = json.loads((run / "run.json").read_text())
    del began["configuration"]["objective"]
    (run / "run.json").write_text(json.dumps(began))
    with pytest.raises(DataError, match=r"run\.json was written by an earlier version of ringlake"):
        report.main(flags(published))


def test_an_evaluation_of_an_earlier_training_is_not_shown(tmp_path: Path) -> None:
    published, run = finished_run(tmp_path)
    evaluate.main([*flags(published), "--set", "evaluate.baseline=false"])
    document = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").write_text(json.dumps({**document, "manifest_root": "0" * 64}))
    report.main(flags(published))
    assert sections.NOT_EVALUATED in (run / "report.html").read_text(encoding="utf-8")


def scored(accuracy: float, macro_f1: float) -> dict[str, Any]:
    one = {"label": "a", "rows": 5, "precision": 0.5, "recall": 0.5, "f1": macro_f1}
    figures = {"accuracy": accuracy, "macro_f1": macro_f1, "macro_precision": 0.5, "macro_recall": 0.5}
    return {"rows": 5, "figures": figures, "details": {"classes": [one], "confusion": [[5]]}}


@pytest.mark.parametrize(
    ("model", "verdict", "tone"),
    [
        ((0.9, 0.8), "ahead of the linear baseline in accuracy and in macro F1", "good"),
        ((0.9, 0.6), "ahead of the linear baseline in accuracy, but not in macro F1", ""),
        ((0.7, 0.8), "ahead of the linear baseline in macro F1, but not in accuracy", ""),
        ((0.8, 0.7), "not ahead of the linear baseline, neither in accuracy nor in macro F1", "bad"),
    ],
)
def test_the_figures_stand_there_whichever_way_they_fall(
    model: tuple[float, float], verdict: str, tone: str
) -> None:
    baseline = scored(0.8, 0.7)
    baseline["details"] |= {"regularisation": 10.0, "validation_accuracy": {"10": 0.8}, "converged": False}
    section = against_baseline({"model": scored(*model), "baselines": {"linear": baseline}})
    first, whole = section.blocks[0], section.blocks[1]
    assert isinstance(first, Text)
    assert isinstance(whole, Table)
    assert verdict in first.text
    assert first.tone == tone
    difference = model[0] - 0.8
    sign = {1: "+", -1: "−", 0: "±"}[(difference > 0.0005) - (difference < -0.0005)]
    assert [c.text for c in whole.cells[0]] == [
        "Accuracy",
        f"{model[0]:.3f}",
        "0.800",
        f"{sign}{abs(difference):.3f}",
    ]
    assert any(isinstance(b, Text) and "It did not converge." in b.text for b in section.blocks)


def test_a_run_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no run 'demo'"):
        report.main(flags(publish(tmp_path)))


def test_another_manifest_in_its_place_is_refused(tmp_path: Path) -> None:
    published, run = finished_run(tmp_path)
    began = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**began, "manifest_root": "0" * 64}))
    with pytest.raises(DataError, match="was trained on 0000000000000000…"):
        report.main(flags(published))
