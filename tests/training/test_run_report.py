"""The run report: self-contained, with the figures whether good or bad."""

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from common import files
from common.errors import DataError, UsageError
from common.pages import charts
from common.pages.page import Beside, Cell, Chart, Folded, Page, Points, ReportSection, Table, Text, render
from schemas.config import load
from tests.training.example_evaluation import example_evaluation
from tests.training.published import Published, publish
from tests.training.test_baseline import with_texts
from tests.training.test_evaluate import untrained_run
from training import evaluate, report
from training.checkpoints import store
from training.classification.sections import against_baseline, confusion
from training.comparison.assessment import signed
from training.reporting import comparisons, sections
from training.tracking import non_finite, summary

TRAINING: dict[str, Any] = {
    **{"world_size": 2, "epochs": 2, "epochs_completed": 1, "steps": 5, "samples_seen": 346, "seconds": 3.2},
    **{"samples_per_second": 108.1, "input_wait_share": 0.0212, "stopped_early": True, "batches_skipped": 1},
    **{"checkpoint": "step-00000003.pt", "checkpoint_sha256": "c" * 64, "checkpoint_chain": "e" * 64},
    **{"best_checkpoint": "step-00000003.pt", "best_step": 3, "best_checkpoint_sha256": "b" * 64},
    **{"best_validation": {"accuracy": 0.75}, "weights_sha256": "d" * 64},
}

NOT_EVALUATED = "This run has not been evaluated: <code>python -m training.evaluate</code> does that."


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
    non_finite.write(run, non_finite.NonFiniteBatch(3, 1, 128, [f"id-{number}" for number in range(10)]))
    (run / "summary.json").write_text(json.dumps({"training": TRAINING}), encoding="utf-8")
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
    assert NOT_EVALUATED in html
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
    assert NOT_EVALUATED in (run / "report.html").read_text(encoding="utf-8")


def text_of(section: ReportSection) -> str:
    return re.sub(
        r"\s+", " ", re.sub(r"<[^>]+>", " ", render(Page("", "", [], [section])).split("<main>")[1])
    )


def test_an_evaluation_of_an_older_checkpoint_is_marked(tmp_path: Path) -> None:
    published, run = finished_run(tmp_path)
    evaluate.main([*flags(published), "--set", "evaluate.baseline=false"])
    section = json.loads((run / "summary.json").read_text())["evaluation"]
    assert (section["step"], section["outdated"]) == (3, None)
    report.main(flags(published))
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Evaluation of another checkpoint" not in page
    assert "Test accuracy" in page
    # The training went on.
    record, state = store.read(store.folder_of(run) / "step-00000003.json")
    facts = record.model_dump(include={"configuration_sha256", "epoch", "finished", "world_size", "seconds"})
    facts |= {"seconds_waited": 0.0, "validation_loss": 0.5}
    store.save(run, {**state, "step": 9}, record.chain, facts)
    told = "of step-00000003.pt, not of the run's best, step-00000009.pt, which training.evaluate judges"
    assert summary.outdated(run, section) == told
    report.main(flags(published))
    page = (run / "report.html").read_text(encoding="utf-8")
    assert f"The evaluation below is {told.replace(chr(39), '&#39;')}." in page
    assert "Test accuracy" not in page
    # Told to judge the older one, the evaluation says so itself.
    flag = ["--set", "evaluate.baseline=false", "--checkpoint", "step-00000003.pt"]
    evaluate.main([*flags(published), *flag])
    assert json.loads((run / "summary.json").read_text())["evaluation"]["outdated"] == told


def test_the_figures_are_printed_before_a_full_disk_is_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published, _ = finished_run(tmp_path)

    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(files, "write", full)
    told = r"evaluation\.json cannot be written: .*No space left on device; make room"
    with pytest.raises(DataError, match=told):
        evaluate.main([*flags(published), "--set", "evaluate.baseline=false"])
    assert "accuracy" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"the report .*report\.html cannot be written: .*No space left"):
        report.main(flags(published))


@pytest.mark.parametrize(
    ("right", "verdict", "tone"),
    [
        ((0.9, 0.7), "The model is ahead of the linear baseline in accuracy and in macro F1.", "good"),
        ((0.7, 0.9), "The model is behind the linear baseline in accuracy and in macro F1.", "bad"),
        (
            (0.9, 0.894),
            "In accuracy and in macro F1, these 1,000 rows can show no difference between the model and the linear "
            "baseline.",
            "",
        ),
    ],
)
def test_a_lead_or_a_lag_is_told_where_the_rows_show_it(
    right: tuple[float, float], verdict: str, tone: str
) -> None:
    evaluation = example_evaluation(5, 1000, right=right)
    section = against_baseline(evaluation)
    assert section.blocks[0] == Text(verdict, tone)  # type: ignore[arg-type]
    model, baseline = evaluation["model"], evaluation["baselines"]["linear"]
    one = baseline["comparison"]["figures"]["accuracy"]
    table = next(block for block in section.blocks if isinstance(block, Table))
    assert [cell.text for cell in table.cells[0]] == [
        "Accuracy",
        f"{model['figures']['accuracy']:.3f}",
        f"{baseline['figures']['accuracy']:.3f}",
        signed(one["difference"]),
        "no difference shown" if not tone else one["verdict"],
    ]
    low, high = model["intervals"]["accuracy"]
    assert table.cells[0][1].note == f"{low:.3f}–{high:.3f}"
    assert table.cells[0][4].note.startswith("McNemar, p ")
    tile = sections.tiles({}, evaluation)[0]
    said = "no difference shown to" if not tone else f"model {verdict.split()[3]}"
    assert tile.note.startswith(said)
    assert tile.note.endswith(f"baseline {baseline['figures']['accuracy']:.3f}")


def test_figures_that_fall_apart_are_told_apart() -> None:
    evaluation = example_evaluation(5, 1000, right=(0.9, 0.7))
    compared = evaluation["baselines"]["linear"]["comparison"]["figures"]
    compared["macro_f1"]["verdict"] = "no difference"
    said = against_baseline(evaluation).blocks[0]
    assert isinstance(said, Text)
    assert said.text.startswith(
        "The model is ahead of the linear baseline in accuracy. In macro F1, these 1,000 rows"
    )
    assert said.tone == ""


def test_a_difference_without_an_interval_is_told_as_not_tested() -> None:
    evaluation = example_evaluation(5, 1000, right=(0.9, 0.7))
    compared = evaluation["baselines"]["linear"]["comparison"]["figures"]
    compared["accuracy"] |= {"verdict": "not tested", "interval": None}
    said, _, table, *_ = against_baseline(evaluation).blocks
    assert isinstance(said, Text)
    assert said.text.endswith("The difference in accuracy is the same on every draw, and is not tested.")
    assert isinstance(table, Table)
    assert table.cells[0][4] == Cell("not tested", "quiet")
    assert sections.tiles({}, evaluation)[0].note.startswith("not tested against baseline")


def test_a_figure_that_is_not_finite_is_a_dash() -> None:
    evaluation = example_evaluation(3, 100)
    model, baseline = evaluation["model"], evaluation["baselines"]["linear"]
    # As JSON has it.
    baseline["comparison"]["by_value"]["f1"][0] = [None, None]
    del baseline["comparison"]["figures"]["macro_recall"]
    for one in (model, baseline):
        one["figures"]["accuracy"] = one["figures"]["macro_recall"] = None
    (tile, *_) = sections.tiles({}, evaluation)
    assert (tile.value, tile.note) == ("–", "no difference shown to baseline –")
    table = next(block for block in against_baseline(evaluation).blocks if isinstance(block, Table))
    assert [cell.text for cell in table.cells[3]] == ["Macro recall", "–", "–", "–", ""]


def test_large_figures_are_written_alike_with_their_intervals() -> None:
    baseline = {"figures": {"rmse": 6_208.83}, "intervals": {"rmse": [6_000.04, 6_500.0]}}
    model = {"figures": {"rmse": 257_674.049, "r2": -41.5}, "intervals": {"r2": [-1_235.6, 0.5]}}
    assert comparisons.measured(model, "rmse") == Cell("257,674", number=True)
    assert comparisons.measured(model, "r2") == Cell("-41.500", number=True, note="-1,235.6 to 0.500")
    assert comparisons.measured(baseline, "rmse").note == "6,000.0–6,500.0"
    found = comparisons.difference(257_674.049, 6_208.83, [-1_234.56, 286_188.497])
    assert found == Cell("+251,465", number=True, note="−1,234.6 to +286,188")


def test_rows_of_groups_are_compared_by_group() -> None:
    said = text_of(against_baseline(example_evaluation(3, 400, groups=40)))
    assert "a paired bootstrap over 40 groups of rows that belong together" in said
    assert "McNemar" not in said
    assert "silver could not be read" not in said
    evaluation = example_evaluation(3, 400)
    evaluation["baselines"]["linear"]["comparison"]["groups_known"] = False
    assert "silver could not be read, so that rows of one group or cluster" in text_of(
        against_baseline(evaluation)
    )


def test_an_evaluation_without_tests_says_so() -> None:
    evaluation = example_evaluation(3, 100)
    for one in (evaluation["model"], evaluation["baselines"]["linear"]):
        one.pop("comparison")
        one.pop("intervals")
    section = against_baseline(evaluation)
    assert "says nothing about chance: <code>python -m training.evaluate</code> does" in render(
        Page("", "", [], [section])
    )
    assert "ahead" not in text_of(section)


def test_few_classes_have_a_table_and_many_a_map() -> None:
    (section,) = confusion(example_evaluation(3, 300))
    assert [type(block) for block in section.blocks] == [Table, Folded]
    (section,) = confusion(example_evaluation(20, 900))
    beside, folded = section.blocks
    assert isinstance(beside, Beside)
    assert isinstance(folded, Folded)
    assert folded.text == "The same for the linear baseline"
    chart, listed = beside.blocks
    assert isinstance(chart, Chart)
    assert isinstance(listed, Table)
    assert len(listed.rows) == 10
    counts = [[cell.text for cell in row][1] for row in listed.cells]
    assert counts == sorted(counts, key=int, reverse=True)
    assert listed.cells[0][0].note.startswith("taken for ")
    assert chart.svg.count("<text") == 40
    (section,) = confusion(example_evaluation(300, 900))
    assert "The 200 classes with most rows of 300; the others are put together." in text_of(section)


def test_the_matrix_of_an_earlier_version_is_read() -> None:
    now = example_evaluation(20, 900)
    before = example_evaluation(20, 900)
    for one in (before["model"], before["baselines"]["linear"]):
        pairs = one["details"]["confusion"]
        dense = [[0] * 20 for _ in range(20)]
        for i, j, count in zip(pairs["true"], pairs["predicted"], pairs["rows"], strict=True):
            dense[i][j] = count
        one["details"]["confusion"] = dense
    assert confusion(before) == confusion(now)


def test_a_map_leaves_out_empty_cells_and_escapes_names() -> None:
    svg = charts.heat_map("Map", ["<a>", "b"], [[4, 0], [1, 3]])
    assert "&lt;a&gt;" in svg
    assert svg.count("M") == 3 + 1  # a path for each shade, and the title
    assert 'fill="var(--c1)" fill-opacity="1.00"' in svg
    assert 'fill="var(--c2)" fill-opacity="0.50"' in svg  # the square root of a quarter


def test_many_classes_are_folded() -> None:
    section = against_baseline(example_evaluation(60, 900))
    tables = [block for block in section.blocks if isinstance(block, Table)]
    assert [len(table.rows) for table in tables] == [4, 25]
    rows = [int(cells[1].text) for cells in tables[1].cells]
    assert rows == sorted(rows, reverse=True)
    folded = next(block for block in section.blocks if isinstance(block, Folded))
    assert folded.text == "All 60 classes"


def test_settings_show_what_differs_first(tmp_path: Path) -> None:
    configuration = load(publish(tmp_path).config).model_dump(mode="json", exclude={"storage"})
    changed, folded = sections.settings({"configuration": configuration}).blocks
    assert isinstance(changed, Table)
    assert isinstance(folded, Folded)
    rows = [[cell.text for cell in row] for row in changed.cells]
    assert ["train.batch", "16", "64"] in rows
    assert ["model.width", "16", "128"] in rows
    assert not [row for row in rows if row[1] == row[2]]
    assert not [row for row in rows if row[0].startswith("augment.")]
    assert "at the default" in folded.text
    configuration["augment"]["flip"] = 0.5
    configuration["model"] = {"kind": "of a package that is gone", "width": 3}
    changed = sections.settings({"configuration": configuration}).blocks[0]
    assert isinstance(changed, Table)
    rows = [[cell.text for cell in row] for row in changed.cells]
    assert ["model.width", "3", "(none)"] in rows
    assert ["augment.flip", "0.5", "0.0"] in rows


def test_a_run_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no run 'demo'"):
        report.main(flags(publish(tmp_path)))


def test_another_manifest_in_its_place_is_refused(tmp_path: Path) -> None:
    published, run = finished_run(tmp_path)
    began = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**began, "manifest_root": "0" * 64}))
    with pytest.raises(DataError, match="was trained on 0000000000000000…"):
        report.main(flags(published))


def test_remarks_on_the_data_come_first_where_there_are_any() -> None:
    (section,) = sections.attention(["the test split has no rows"])
    assert section.blocks == [Points([Text("The test split has no rows.")])]
    assert sections.attention([]) == []
