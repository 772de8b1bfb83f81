"""Sections of the run report, each from figures alone."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydantic_core import to_jsonable_python

from common.pages import charts
from common.pages.page import (
    Block,
    Cell,
    Chart,
    Code,
    Folded,
    Picture,
    Pictures,
    Points,
    ReportSection,
    Table,
    Text,
    Tile,
    Value,
    figure,
    number,
    remarks,
    size,
)
from common.sections import Section
from common.wording import counted
from schemas.kinds import ROOMS
from schemas.manifest import Manifest
from schemas.settings import Augment, Train
from training.reporting import comparisons
from training.reporting.comparisons import shown_name
from training.tracking.metrics import BESIDE_RESULTS
from training.tracking.non_finite import NonFiniteBatch

Evaluation = dict[str, Any]
NOT_EVALUATED = "This run has not been evaluated: `python -m training.evaluate` does that."
NOTHING: Mapping[str, Callable[[float], float]] = MappingProxyType({})
PLAIN: Mapping[str, type[Section]] = {"train": Train, "augment": Augment}
"""Sections of a training's settings that have no kinds."""
IDS_SHOWN, BATCHES_SHOWN = 8, 20
CURVES = {
    "learning_rate": ("Learning rate", "learning rate"),
    "gradient_norm": ("Gradient norm", "norm before clipping"),
    "samples_per_second": ("Throughput", "rows a second, all ranks"),
    "input_wait_share": ("Waiting for input", "share of the time"),
}

OVER = {"training": "over the batches trained on", "validation": "over the whole validation split"}
CAPTIONS = {
    "learning_rate": "Of each step, by the schedule of the optimizer.",
    "gradient_norm": "Before clipping: of the gradient over the whole global batch or, where ranks or silos step by "
    "themselves, the root of the sum of their squared norms.",
    "samples_per_second": "Rows that all ranks together trained on, a second.",
    "input_wait_share": "Share of the time in which a rank waited for its next batch, averaged over the ranks.",
}


def attention(sentences: Sequence[str]) -> list[ReportSection]:
    """Return the section with remarks on the data; none without any."""
    return [ReportSection("Needs attention", [Points(remarks(sentences))])] if sentences else []


def tiles(training: dict[str, Any], evaluation: Evaluation | None) -> list[Tile]:
    """Return the figures at the top."""
    found: list[Tile] = []
    if evaluation is not None:
        for name, value in list(evaluation["model"]["figures"].items())[:2]:
            baselines = evaluation["baselines"]
            notes = [
                _beside(one, name, shown_name(of) if len(baselines) > 1 else "baseline")
                for of, one in baselines.items()
                if name in one["figures"]
            ]
            found.append(
                Tile(
                    f"{evaluation['split'].capitalize()} {shown_name(name)}",
                    figure(value).text,
                    "; ".join(notes) or "no baseline",
                )
            )
    if training:
        share = 100 * training["input_wait_share"]
        found += [
            Tile("Steps", f"{training['steps']:,}", _epochs(training)),
            Tile(
                "Rows seen", f"{training['samples_seen']:,}", f"by {counted(training['world_size'], 'rank')}"
            ),
            Tile(
                "Training time",
                f"{training['seconds']:,.0f} s",
                f"{training['samples_per_second']:,.0f} rows/s",
            ),
            Tile("Waiting for input", f"{share:.2f}%", "of the training time"),
        ]
        if training["batches_skipped"]:
            found.append(
                Tile("Batches skipped", f"{training['batches_skipped']:,}", "their loss was not finite")
            )
        if overflows := training.get("overflows", 0):
            found.append(
                Tile("Overflows", f"{overflows:,}", "steps skipped while the scale of fp16 was too high")
            )
    return found


def _beside(baseline: dict[str, Any], name: str, called: str) -> str:
    """Return the note below a figure: that of a baseline, and whether the rows can show a difference."""
    compared = (baseline.get("comparison") or {}).get("figures", {}).get(name)
    said = {
        "ahead": "model ahead of ",
        "behind": "model behind ",
        "no difference": "no difference shown to ",
        "not tested": "not tested against ",
    }
    verdict = "" if compared is None else said[compared["verdict"]]
    return f"{verdict}{called} {figure(baseline['figures'][name]).text}"


def _epochs(training: dict[str, Any]) -> str:
    if not training["stopped_early"]:
        return counted(training["epochs"], "epoch")
    return f"stopped early, after {training['epochs_completed']:,} of {training['epochs']:,} epochs"


def outdated(what: str) -> ReportSection:
    """Say that the evaluation below is of another checkpoint than the run's own."""
    return ReportSection(
        "Evaluation of another checkpoint", [Text(f"The evaluation below is {what}.", "bad")]
    )


def figures(evaluation: Evaluation | None, manifest: Manifest) -> ReportSection:
    """Show the figures of the model beside those of the baselines, whichever are better, and what is chance."""
    if evaluation is None:
        return ReportSection("Evaluation", [not_evaluated(manifest)])
    baselines, split, rows = evaluation["baselines"], evaluation["split"], evaluation["model"]["rows"]
    headings = {
        f"Baseline: {shown_name(name)}" if len(baselines) > 1 else "Baseline": one
        for name, one in baselines.items()
    }
    names = {name: shown_name(name, start=True) for name in evaluation["model"]["figures"]}
    blocks: list[Block] = []
    for name, one in baselines.items():
        if one.get("comparison") is not None:
            compared = [each for each in names if each in one["comparison"]["figures"]]
            blocks += comparisons.verdict(one, f"the {shown_name(name)} baseline", compared)
    blocks.append(comparisons.table(evaluation["model"], headings, names))
    blocks.append(Text(f"Over the {counted(rows, 'row')} of the {split} split.", "quiet"))
    return ReportSection(f"{split.capitalize()} split", blocks)


def augmented(evaluation: Evaluation | None) -> list[ReportSection]:
    """Show what augmentation makes of some rows; nothing without it."""
    rows = [] if evaluation is None else evaluation.get("augmented", [])
    if not rows:
        return []
    names = ["as it is", *(f"epoch {place}" for place in range(1, len(rows[0]["pictures"])))]
    shown = [
        (one["record_id"], [Picture(png, name) for png, name in zip(one["pictures"], names, strict=True)])
        for one in rows
    ]
    caption = "What `[augment]` makes of some rows in each epoch, by seed, epoch and record key alone."
    return [ReportSection("Augmented rows", [Pictures(shown, caption)])]


def not_evaluated(manifest: Manifest, split: str = "test") -> Text:
    """Say why there are no figures: nobody asked for them, or there are no rows to compute them from."""
    if manifest.splits[split].rows:
        return Text(NOT_EVALUATED, "quiet")
    return Text(f"The {split} split has no rows: there is nothing to judge the model by.", "bad")


def curves(
    entries: Sequence[dict[str, Any]], of_loss: Mapping[str, Callable[[float], float]] = NOTHING
) -> ReportSection:
    """Plot loss, what follows from it, validation metrics, learning rate, gradient norm, throughput, and waiting for
    input.
    """

    def series(kind: str, key: str) -> list[tuple[float, float]]:
        return [(e["step"], e[key]) for e in entries if e["kind"] == kind and e.get(key) is not None]

    blocks: list[Block] = []
    loss = {"training": series("train", "loss"), "validation": series("validation", "loss")}
    loss = {name: points for name, points in loss.items() if points}
    if loss:
        svg = charts.lines("Loss", loss, "step", "loss")
        blocks.append(Chart(svg, f"Weighted mean: {', and '.join(OVER[name] for name in loss)}."))
    for name, follows in of_loss.items():
        if loss:
            followed = {
                key: [(step, follows(value)) for step, value in points] for key, points in loss.items()
            }
            found = {
                key: [one for one in points if math.isfinite(one[1])] for key, points in followed.items()
            }
            svg = charts.lines(shown_name(name, start=True), found, "step", shown_name(name))
            blocks.append(Chart(svg, "From the loss, where it is finite."))
    known = BESIDE_RESULTS | {"loss"}
    metrics = {key for entry in entries if entry["kind"] == "validation" for key in entry} - known
    for name in sorted(metrics):
        points = series("validation", name)
        if points:
            title = f"{shown_name(name, start=True)} on the validation split"
            svg = charts.lines(title, {"validation": points}, "step", shown_name(name))
            blocks.append(Chart(svg, "Mean over the whole validation split."))
    for key, (title, unit) in CURVES.items():
        points = series("train", key)
        if points:
            svg = charts.lines(title, {key: points}, "step", unit, from_zero=True)
            blocks.append(Chart(svg, CAPTIONS[key]))
    if not blocks:
        blocks.append(Text("Nothing was measured yet.", "quiet"))
    return ReportSection("Learning curves", blocks)


def lineage(
    manifest: Manifest, began: dict[str, Any], training: dict[str, Any], evaluation: Evaluation | None
) -> ReportSection:
    """Show the path from the raw files to the checkpoint, with the hash that pins each step."""
    made, content = manifest.provenance, manifest.content
    rows: list[list[Value]] = [
        [
            "Sources",
            f"{counted(content.sources.files, 'file')}, {size(content.sources.bytes)}",
            Cell(content.sources.root, "code"),
        ],
        ["Bronze", _versions(made.bronze_versions), ""],
        ["Silver", _versions(made.silver_versions), ""],
        [
            "Shards",
            f"Delta version {manifest.delta_version}, "
            f"{counted(sum(len(split.shards) for split in manifest.splits.values()), 'shard')}, "
            f"{content.counts['published']:,} of {content.counts['records_in']:,} records",
            Cell(manifest.table_uri, "code"),
        ],
        ["Manifest", Cell(str(began["manifest"]), "code"), Cell(manifest.manifest_root, "code")],
    ]
    if started := began.get("started_from"):
        place = started["file"] if "file" in started else f"{started['run']}, {started['checkpoint']}"
        rows.append(["First weights", Cell(place, "code"), Cell(started["sha256"], "code")])
    if training:
        rows.append(
            [
                "Last checkpoint",
                Cell(training["checkpoint"], "code"),
                Cell(training["checkpoint_sha256"], "code"),
            ]
        )
        for name, value in (training["best_validation"] or {}).items():
            best = f"of step {training['best_step']:,}, by validation {shown_name(name)} {figure(value).text}"
            rows.append(["Best checkpoint", best, Cell(training["best_checkpoint_sha256"], "code")])
        rows.append(
            [
                "Chain",
                "of all checkpoints of the run, each to the one before",
                Cell(training["checkpoint_chain"], "code"),
            ]
        )
        rows.append(["Weights", "the model's tensors alone", Cell(training["weights_sha256"], "code")])
    if evaluation is not None:
        rows.append(
            [
                "Evaluated",
                Cell(evaluation["checkpoint"], "code"),
                Cell(evaluation["checkpoint_sha256"], "code"),
            ]
        )
    note = Text(
        "The root covers every shard, artifact and setting that decides what training sees; `python -m etl.verify` "
        "hashes all of it again, `python -m training.verify` the checkpoints and their chain.",
        "quiet",
    )
    return ReportSection("Lineage", [Table(["", "What", "Pinned by (SHA-256)"], rows), note])


def non_finite(batches: Sequence[NonFiniteBatch]) -> list[ReportSection]:
    """List the batches with a non-finite loss or gradient, and the records in them; no section if there were none."""
    if not batches:
        return []
    rows: list[list[Value]] = []
    for batch in batches[:BATCHES_SHOWN]:
        ids = batch.records
        shown = ", ".join(ids[:IDS_SHOWN]) + (" …" if len(ids) > IDS_SHOWN else "")
        facts = (batch.step, batch.epoch, batch.position, len(batch.record_ids))
        rows.append([*map(number, facts), Cell(shown, "code")])
    more = (
        "" if len(batches) <= BATCHES_SHOWN else f" The first {BATCHES_SHOWN} of {len(batches):,} are shown."
    )
    note = Text(
        f"These batches changed no weight. All ids of their records are in `non_finite.jsonl`.{more}", "quiet"
    )
    table = Table(["Step", "Epoch", "Position", "Rows", "Records"], rows)
    return [ReportSection("Batches without a finite loss", [table, note])]


def settings(began: dict[str, Any]) -> ReportSection:
    """Return the settings of the training: those that differ from the default, and all others folded."""
    changed: list[list[Value]] = []
    same: list[list[Value]] = []
    for section in ("objective", "model", "method", "optimizer", *PLAIN):
        values = began["configuration"].get(section, {})
        defaults = _defaults(section, values)
        for key, value in values.items():
            row: list[Value] = [Cell(f"{section}.{key}", "code"), Cell(_setting(value), "code")]
            if key in defaults and defaults[key] == value:
                same.append(row)
            else:
                default = _setting(defaults[key]) if key in defaults else "(none)"
                changed.append([*row, Cell(default, "code")])
    blocks: list[Block] = [Text("All settings are at their defaults.")]
    if changed:
        blocks = [Table(["Key", "Value", "Default"], changed)]
    if same:
        blocks.append(
            Folded(f"{counted(len(same), 'setting')} at the default", [Table(["Key", "Value"], same)])
        )
    return ReportSection("Settings", blocks)


def _defaults(section: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults of a section in JSON's types; nothing for a kind that is not installed here."""
    room = ROOMS.get(section)
    kind = PLAIN[section] if room is None else room.classes.get(values.get(room.key, ""))
    if kind is None:
        return {}
    found = {
        name: to_jsonable_python(field.get_default(call_default_factory=True))
        for name, field in kind.model_fields.items()
        if not field.is_required()
    }
    return found if room is None else {**found, room.key: room.default}


def _setting(value: Any) -> str:
    return "–" if value is None else str(value)


def environment(began: dict[str, Any]) -> ReportSection:
    """Show where the run took place, and how to repeat it."""
    rows: list[list[Value]] = [
        [name.replace("_", " "), Cell(str(value), "code")] for name, value in began["environment"].items()
    ]
    return ReportSection(
        "Environment",
        [
            Table(["", ""], rows),
            Text("The command that repeats this run, under another name, and the folder it was given in:"),
            Code(f"cd {began['folder']}\n{began.get('repeat', began['command'])}"),
        ],
    )


def _versions(versions: dict[str, int]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) or "–"
