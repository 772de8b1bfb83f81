"""Files of a run that were damaged, or cannot be written, and numbers that JSON does not have."""

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from common import files
from common.errors import DataError
from tests.training.test_run_report import TRAINING
from training.tracking import metrics, non_finite, summary
from training.tracking.run_files import read_evaluation, read_run, write_json


def strict(path: Path) -> Any:
    """Read JSON as a reader does that knows no NaN."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_what_is_not_finite_becomes_null_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = {"accuracy": math.nan, "perplexity": math.inf, "recall": 0.5}
    classes = [{"f1": math.nan}, {"f1": math.nan}]
    summary.update(tmp_path, evaluation={"figures": figures, "classes": classes})
    found = strict(tmp_path / "summary.json")["evaluation"]
    assert found["figures"] == {"accuracy": None, "perplexity": None, "recall": 0.5}
    assert found["classes"] == [{"f1": None}, {"f1": None}]
    told = "note: evaluation.figures.accuracy, evaluation.figures.perplexity, evaluation.classes.f1 in "
    assert capsys.readouterr().err == f"{told}{tmp_path}/summary.json: not finite, written as null\n"


def test_a_damaged_line_of_the_metrics_is_skipped_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with metrics.Metrics(tmp_path, 0) as writer:
        writer.write(1, "train", loss=math.nan, gradient_norm=1.0)
        writer.write(2, "train", loss=0.5)
    path = tmp_path / "metrics.jsonl"
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda constant: pytest.fail(constant))
    good = metrics.read(tmp_path)
    assert [entry["loss"] for entry in good] == [None, 0.5]
    lines = path.read_bytes().splitlines(keepends=True)
    older = b'{"step": 3, "kind": "train", "loss": NaN}\n'
    path.write_bytes(lines[0] + b'{"step": 1, "ki\xff\n[]\n{"kind": "train"}\n' + lines[1] + older + b'{"st')
    assert [entry["loss"] for entry in metrics.read(tmp_path)] == [None, 0.5, None]
    shown = capsys.readouterr().err.splitlines()
    assert shown == [f"warning: line {number} of {path} is damaged and is skipped" for number in (2, 3, 4)]


def test_a_damaged_line_of_the_non_finite_batches_is_skipped_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = non_finite.NonFiniteBatch(3, 1, 128, ["a"])
    non_finite.write(tmp_path, batch)
    path = tmp_path / "non_finite.jsonl"
    path.write_bytes(b"{}\n" + path.read_bytes())
    assert non_finite.read(tmp_path) == [batch]
    assert f"line 1 of {path} is damaged" in capsys.readouterr().err


BEGAN = {
    "command": "c",
    "folder": "/f",
    "manifest": "/m",
    "manifest_root": "r",
    "configuration": {},
    "environment": {},
}
EVALUATED = {
    "manifest_root": "r",
    "checkpoint": "step-00000003.pt",
    "checkpoint_sha256": "s",
    "split": "test",
    "model": {},
    "baselines": {},
}


@pytest.mark.parametrize("damage", ["", "{", "[]", "\xff", "{}", '{"manifest": 1}'])
def test_damaged_files_are_named_with_what_to_do(tmp_path: Path, damage: str) -> None:
    assert (read_run(tmp_path), read_evaluation(tmp_path), summary.read(tmp_path)) == (None, None, {})
    for name, content in (("run.json", BEGAN), ("evaluation.json", EVALUATED)):
        (tmp_path / name).write_text(json.dumps({**content, "more": 1}))
    assert read_run(tmp_path) == {**BEGAN, "more": 1}
    assert read_evaluation(tmp_path) == {**EVALUATED, "more": 1}
    for name in ("run.json", "evaluation.json"):
        (tmp_path / name).write_text(damage, encoding="latin-1")
    with pytest.raises(
        DataError, match=r"run\.json is (damaged|no JSON object).*: put it back from a copy, or train"
    ):
        read_run(tmp_path)
    with pytest.raises(
        DataError, match=r"evaluation\.json is (damaged|no JSON object).*: evaluate the run again"
    ):
        read_evaluation(tmp_path)


@pytest.mark.parametrize(
    "damage", ["{", "[]", '{"training": 1}', '{"training": {"steps": 1}}', '{"evaluation": {}}']
)
def test_a_damaged_summary_is_named_with_what_to_do(tmp_path: Path, damage: str) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"training": TRAINING}))
    assert summary.read(tmp_path) == {"training": TRAINING}
    (tmp_path / "summary.json").write_text(damage)
    with pytest.raises(
        DataError, match=r"summary\.json is (damaged|no JSON object).*remove it; training with --resume"
    ):
        summary.read(tmp_path)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "No space left on device; make room"),
        (errno.EROFS, "Read-only file system; it is mounted read-only"),
        (errno.EACCES, "Permission denied; mend the permissions"),
        (errno.ENOENT, "No such file or directory; something else removed files there"),
    ],
)
def test_a_file_that_cannot_be_written_is_named_with_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number), "/there/file")

    monkeypatch.setattr(files, "write", fail)
    with pytest.raises(DataError, match=f"{tmp_path}/x.json cannot be written: /there/file: {told}"):
        write_json(tmp_path / "x.json", {})
