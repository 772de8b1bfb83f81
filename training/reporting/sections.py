"""The sections of the run report, each from figures alone."""

from collections.abc import Sequence
from typing import Any

from common.pages import charts
from common.pages.page import (
    Block,
    Cell,
    Chart,
    Code,
    Section,
    Table,
    Text,
    Tile,
    Value,
    figure,
    number,
    size,
)
from schemas.manifest import Manifest
from training.engine.non_finite import Batch

Evaluation = dict[str, Any]
NOT_EVALUATED = "This run has not been evaluated: python -m training.evaluate does that."
IDS_SHOWN, BATCHES_SHOWN = 8, 20
CURVES = {
    "learning_rate": ("Learning rate", "learning rate"),
    "gradient_norm": ("Gradient norm", "norm before clipping"),
    "samples_per_second": ("Throughput", "rows a second, all ranks"),
    "input_wait_share": ("Waiting for input", "share of the time"),
}

CAPTIONS = {
    "learning_rate": "Warm-up, then cosine annealing.",
    "gradient_norm": "Of the gradient over the whole global batch, before it is clipped.",
    "samples_per_second": "Rows that all ranks together trained on, a second.",
    "input_wait_share": "Share of the time in which a rank waited for its next batch, averaged over the ranks.",
}


def tiles(training: dict[str, Any], evaluation: Evaluation | None) -> list[Tile]:
    """The figures at the top."""
    found: list[Tile] = []
    if evaluation is not None:
        model, baseline = evaluation["model"], evaluation["baseline"]
        for label, key in (("Test accuracy", "accuracy"), ("Test macro F1", "macro_f1")):
            note = "no baseline" if baseline is None else f"baseline {baseline[key]:.3f}"
            found.append(Tile(label, f"{model[key]:.3f}", note))
    if training:
        share = 100 * training["input_wait_share"]
        found += [
            Tile("Steps", f"{training['steps']:,}", f"{training['epochs']:,} epochs"),
            Tile(
                "Rows seen", f"{training['samples_seen']:,}", f"by {training['world_size']:,} ranks together"
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
    return found


def against_baseline(evaluation: Evaluation | None) -> Section:
    """The model and the linear baseline side by side, whichever way the figures fall."""
    title = "Test split, model and baseline"
    if evaluation is None:
        return Section(title, [Text(NOT_EVALUATED, "quiet")])
    model, baseline = evaluation["model"], evaluation["baseline"]
    others = baseline["classes"] if baseline is not None else [None] * len(model["classes"])
    figures = {
        "Accuracy": "accuracy",
        "Macro F1": "macro_f1",
        "Macro precision": "macro_precision",
        "Macro recall": "macro_recall",
    }
    whole = [
        _compared(name, model[key], baseline[key] if baseline else None) for name, key in figures.items()
    ]
    by_class: list[list[Value]] = [
        [one["label"], number(one["rows"])]
        + [figure(one[key]) for key in ("precision", "recall")]
        + _compared("", one["f1"], other["f1"] if other is not None else None)[1:]
        for one, other in zip(model["classes"], others, strict=True)
    ]
    blocks: list[Block] = [_verdict(model, baseline)]
    blocks.append(Table(["", "Model", "Baseline", "Difference"], whole))
    blocks.append(
        Table(["Class", "Rows", "Precision", "Recall", "F1", "F1 of the baseline", "Difference"], by_class)
    )
    blocks.append(
        Text(
            "Macro figures are means over the classes that occur in the test split, each with the same weight.",
            "quiet",
        )
    )
    if baseline is not None:
        blocks.append(Text(_described(baseline), "quiet"))
    return Section(title, blocks)


def _compared(name: str, model: float, baseline: float | None) -> list[Value]:
    if baseline is None:
        return [name, figure(model), figure(None), figure(None)]
    difference = model - baseline
    sign = "+" if difference >= 0.0005 else "−" if difference <= -0.0005 else "±"
    text = f"{sign}{abs(difference):.3f}"
    return [name, figure(model), figure(baseline), Cell(text, number=True)]


def _verdict(model: dict[str, Any], baseline: dict[str, Any] | None) -> Text:
    if baseline is None:
        return Text("No baseline was trained (evaluate.baseline is false).", "quiet")
    ahead = {
        name: model[key] > baseline[key] for name, key in (("accuracy", "accuracy"), ("macro F1", "macro_f1"))
    }
    if all(ahead.values()):
        return Text("The model is ahead of the linear baseline in accuracy and in macro F1.", "good")
    if not any(ahead.values()):
        return Text(
            "The model is not ahead of the linear baseline, neither in accuracy nor in macro F1.", "bad"
        )
    better, worse = sorted(ahead, key=lambda name: not ahead[name])
    return Text(f"The model is ahead of the linear baseline in {better}, but not in {worse}.")


def _described(baseline: dict[str, Any]) -> str:
    tried = ", ".join(f"{c}: {accuracy:.3f}" for c, accuracy in baseline["validation_accuracy"].items())
    described = (
        "The baseline: hashed word 1- and 2-grams of the full cleaned texts, logistic regression, trained on the same "
        f"training split. Accuracy on the validation split by C: {tried}; C = {baseline['regularisation']:g} was taken."
    )
    return described if baseline["converged"] else described + " It did not converge."


def confusion(evaluation: Evaluation | None) -> list[Section]:
    """The confusion matrices: rows are what a text is, columns what it was taken for."""
    if evaluation is None:
        return []
    blocks: list[Block] = []
    for name, key in (("model", "model"), ("baseline", "baseline")):
        scores = evaluation[key]
        if scores is None:
            continue
        labels = [one["label"] for one in scores["classes"]]
        rows: list[list[Value]] = []
        for label, counts in zip(labels, scores["confusion"], strict=True):
            total = max(1, sum(counts))
            rows.append([label, *(Cell(f"{count:,}", shade=count / total) for count in counts)])
        caption = (
            f"The {name}: rows are the true class, columns the predicted one; shaded by the share of the row."
        )
        blocks.append(Table(["", *labels], rows, caption))
    return [Section("Confusion matrix", blocks)]


def curves(entries: Sequence[dict[str, Any]]) -> Section:
    """Loss, accuracy on the validation split, learning rate, gradient norm, throughput, waiting for input."""

    def series(kind: str, key: str) -> list[tuple[float, float]]:
        return [(e["step"], e[key]) for e in entries if e["kind"] == kind and e.get(key) is not None]

    blocks: list[Block] = []
    loss = {"training": series("train", "loss"), "validation": series("validation", "loss")}
    loss = {name: points for name, points in loss.items() if points}
    if loss:
        svg = charts.lines("Loss", loss, "step", "cross-entropy")
        blocks.append(
            Chart(svg, "Loss a row: of the batches trained on, and over the whole validation split.")
        )
    accuracy = series("validation", "accuracy")
    if accuracy:
        svg = charts.lines("Accuracy on the validation split", {"validation": accuracy}, "step", "accuracy")
        blocks.append(Chart(svg, "Share of the validation split that is classified correctly."))
    for key, (title, unit) in CURVES.items():
        points = series("train", key)
        if points:
            svg = charts.lines(title, {key: points}, "step", unit, from_zero=True)
            blocks.append(Chart(svg, CAPTIONS[key]))
    if not blocks:
        blocks.append(Text("Nothing was measured yet.", "quiet"))
    return Section("Learning curves", blocks)


def lineage(
    manifest: Manifest, began: dict[str, Any], training: dict[str, Any], evaluation: Evaluation | None
) -> Section:
    """From the raw files to the checkpoint, each with the hash that pins it."""
    made, content = manifest.provenance, manifest.content
    rows: list[list[Value]] = [
        [
            "Sources",
            f"{content.sources.files:,} files, {size(content.sources.bytes)}",
            Cell(content.sources.root, "code"),
        ],
        ["Bronze", _versions(made.bronze_versions), ""],
        ["Silver", _versions(made.silver_versions), ""],
        [
            "Shards",
            f"Delta version {manifest.delta_version}, "
            f"{sum(len(split.shards) for split in manifest.splits.values()):,} shards, "
            f"{content.counts['published']:,} of {content.counts['records_in']:,} records",
            Cell(manifest.table_uri, "code"),
        ],
        ["Manifest", Cell(str(began["manifest"]), "code"), Cell(manifest.manifest_root, "code")],
    ]
    if training:
        rows.append(
            ["Checkpoint", Cell(training["checkpoint"], "code"), Cell(training["checkpoint_sha256"], "code")]
        )
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
    return Section("Lineage", [Table(["", "What", "Pinned by (SHA-256)"], rows), note])


def non_finite(batches: Sequence[Batch]) -> list[Section]:
    """The batches whose loss or gradient was not finite, with the records that they held; nothing where none was."""
    if not batches:
        return []
    rows: list[list[Value]] = []
    for batch in batches[:BATCHES_SHOWN]:
        ids = batch.record_ids
        shown = ", ".join(ids[:IDS_SHOWN]) + (" …" if len(ids) > IDS_SHOWN else "")
        facts = (batch.step, batch.epoch, batch.position, len(ids))
        rows.append([*map(number, facts), Cell(shown, "code")])
    more = (
        "" if len(batches) <= BATCHES_SHOWN else f" The first {BATCHES_SHOWN} of {len(batches):,} are shown."
    )
    note = Text(
        f"These batches changed no weight. All ids of their records are in non_finite.jsonl.{more}", "quiet"
    )
    table = Table(["Step", "Epoch", "Position", "Rows", "Records"], rows)
    return [Section("Batches without a finite loss", [table, note])]


def settings(began: dict[str, Any]) -> Section:
    """The sections of the configuration that decide the training."""
    rows: list[list[Value]] = [
        [Cell(f"{section}.{key}", "code"), Cell("–" if value is None else str(value), "code")]
        for section in ("model", "optimizer", "train")
        for key, value in began["configuration"][section].items()
    ]
    return Section("Settings", [Table(["Key", "Value"], rows)])


def environment(began: dict[str, Any]) -> Section:
    """Where it ran, and how to do it again."""
    rows: list[list[Value]] = [
        [name.replace("_", " "), Cell(str(value), "code")] for name, value in began["environment"].items()
    ]
    return Section(
        "Environment",
        [
            Table(["", ""], rows),
            Text("The command that repeats this run, and the folder it was given in:"),
            Code(f"cd {began['folder']}\n{began['command']}"),
        ],
    )


def _versions(versions: dict[str, int]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) or "–"
