"""Accuracy against compute from random and from given weights: `python -m benchmarks.methods.warm_start`.

The licences, published once with MiniLM's tokenizer in 100 training shards; 1%, 10% and all of the training rows are
the first of these shards that have as many rows, each share sealed as a manifest of its own, so that a training proves
that it read exactly these rows. Ways: `small` (1 layer × 64) and `random` (MiniLM's shape) from random weights, `own`
(`small` from the run on the next smaller share) and `minilm` from given ones. Each way and share is a cell, trained,
and evaluated on the whole test split; one that was interrupted goes on. `demo` is the configuration as it stands,
on two ranks.

Compute is counted in floating-point operations of the steps alone, without validation; seconds are wall-clock, also
of the steps alone, on two threads of this machine, whatever else it was doing.
"""

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.methods.cells import Kept, Row, row, stated
from benchmarks.methods.compute import training_flops
from common import command
from common.errors import CheckError
from common.progress import log
from provenance.keys import key_sums
from schemas import config as configuration
from schemas.manifest import Manifest, load, name_of, published
from schemas.split_content import SplitContent
from schemas.tables import Layout
from training import models, objectives
from training.input.batch_loader import BatchLoader
from training.input.columns import to_array
from training.input.shards import read_row_groups
from training.parallel.world import World
from training.tracking import summary

CONFIG = "conf/licences-minilm.toml"
ROOT = Path("warehouse/warm-start")
RUNS = Path("runs/warm-start")
KEPT = Kept("warm_start")
SHARES = {1: "1% of the rows", 10: "10% of the rows", 100: "all rows"}
"""By percentage."""
VALIDATION = 25
"""Percentage of the validation rows; on all of them, a validation would take longer than an epoch of few rows."""
MINUTES = 15
CLAIMED_SAVING, CLAIMED_ACCURACY = 0.9, 0.85
SMALL = 'model={kind="transformer_classifier",layers=1,width=64,heads=4START}'
FIRST = {1: None, 10: 1, 100: 10}
"""Share whose run `own` starts from."""
BATCH = {1: 16, 10: 32, 100: 32}
EPOCHS = {
    "small": {1: 24, 10: 12, 100: 6},
    "own": {10: 3, 100: 2},
    "random": {1: 12, 10: 6},
    "minilm": {1: 8, 10: 3, 100: 1},
}
RATE = {"small": 2e-3, "own": 1e-3, "random": 3e-4, "minilm": 1e-4}
DEMO = "demo"
CELLS = [*(f"{way}-{share}" for share in SHARES for way in EPOCHS if share in EPOCHS[way]), DEMO]
MAKE = f"make etl train evaluate CONF={CONFIG} RUN=minilm NP=2"


def settings(way: str, share: int) -> list[str]:
    """Return the configuration's overrides for a cell."""
    found = [
        f"dataset.root={ROOT}",
        f"train.runs={RUNS}",
        f"train.epochs={EPOCHS[way][share]}",
        f"train.batch={BATCH[share]}",
        f"optimizer.learning_rate={RATE[way]}",
        "train.threads=2",
        "train.freeze=[]",
        f"optimizer.head_learning_rate={1e-3 if way == 'minilm' else RATE[way]}",
    ]
    if way in ("small", "own"):
        start = f', start="{RUNS}/small-{FIRST[share]}"' if way == "own" else ""
        found.append(SMALL.replace("START", start))
    elif way == "random":
        found.append("model.pretrained=false")
    return found


def subset(share: int) -> Path:
    """Return the manifest with a percentage of the training rows, sealed whenever it is asked for.

    Publishes the data first where they are not. Raises CheckError if that fails.
    """
    config = configuration.load(CONFIG, [f"dataset.root={ROOT}"])
    places = list(published(Layout.of(config).manifests).values())
    if not places:
        run(["bash", "setup/data.sh", CONFIG])
        more = ["--set", f"dataset.root={ROOT}", "--set", "publish.shards=100"]
        run([sys.executable, "-m", "etl.pipeline", "--config", CONFIG, *more])
        places = list(published(Layout.of(config).manifests).values())
    whole = load(places[-1])
    splits = dict(whole.content.splits)
    for name, percentage in (("train", share), ("validation", VALIDATION)):
        splits[name] = _first(whole, name, percentage)
    left_out = sum(split.rows for split in whole.content.splits.values()) - sum(
        s.rows for s in splits.values()
    )
    counts = dict(whole.content.counts)
    # So that all records are still accounted for.
    counts |= {"published": counts["published"] - left_out, "filtered": counts["filtered"] + left_out}
    content = whole.content.model_copy(update={"splits": splits, "counts": counts})
    sealed = Manifest.seal(content, whole.provenance, whole.delta_version, whole.dataset_uri)
    file = ROOT / config.dataset.name / "subsets" / name_of(share, sealed.manifest_root)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(sealed.to_json())
    return file


def _first(whole: Manifest, name: str, percentage: int) -> SplitContent:
    """Return the first shards of a split that have a percentage of its rows or, with the last, just more."""
    split = whole.splits[name]
    before = itertools.accumulate((shard.rows for shard in split.shards), initial=0)
    count = sum(100 * rows < percentage * split.rows for rows in before)
    split = split.model_copy(update={"shards": split.shards[:count]})
    part = whole.model_copy(
        update={"content": whole.content.model_copy(update={"splits": {**whole.content.splits, name: split}})}
    )
    columns = [whole.column("key"), whole.column("label")]
    keys, labels = [], []
    for table, where in read_row_groups(part, name, columns, None):
        keys.append(to_array(table, columns[0], where))
        labels.append(to_array(table, columns[1], where))
    counts = np.bincount(np.concatenate(labels), minlength=len(split.label_counts)).tolist()
    sums = key_sums(np.concatenate(keys))
    return split.model_copy(
        update={
            "rows": sum(counts),
            "epoch_rows": sum(counts),
            "key_sums": sums,
            "epoch_key_sums": sums,
            "label_counts": dict(zip(split.label_counts, counts, strict=True)),
        }
    )


def flags_of(way: str, share: int) -> list[str]:
    """Return the flags of training and evaluation for a cell."""
    overrides = [part for one in settings(way, share) for part in ("--set", one)]
    return ["--config", CONFIG, "--manifest", str(subset(share)), "--run", f"{way}-{share}", *overrides]


def run(arguments: Sequence[str]) -> None:
    """Run a command. Raises CheckError where it fails."""
    done = subprocess.run(arguments, stdout=sys.stderr, check=False)
    if done.returncode:
        raise CheckError(
            f"{' '.join(arguments)} ended with status {done.returncode}; its messages stand above"
        )


def figures(name: str) -> dict[str, Any]:
    """Train and evaluate a cell; return its figures. Raises CheckError if a command fails."""
    if name == DEMO:
        run([*MAKE.split(), "AGAIN=1"])
        folder = Path("runs/minilm")
        return {"seconds": summary.read(folder)["training"]["seconds"], **judged(folder)}
    way, _, of_rows = name.rpartition("-")
    share, folder = int(of_rows), RUNS / name
    if folder.exists() and "evaluation" in summary.read(folder):
        shutil.rmtree(folder)  # of figures that are no longer wanted; one without them was interrupted
    flags = flags_of(way, share)
    for module, more in (("training.train", ["--resume=auto"]), ("training.evaluate", [])):
        log(f"{way} on {SHARES[share]}: {module} …")
        run([sys.executable, "-m", module, *flags, *more])
    whole = flops_a_row(way, share)
    return {
        "way": way,
        "rows": load(str(subset(share))).splits["train"].rows,
        "epochs": EPOCHS[way][share],
        "gigaflops_a_row": whole["a_row"] / 1e9,
        "parameters": whole["parameters"],
        "curve": curve(folder / "metrics.jsonl", whole["a_row"]),
        **judged(folder),
        "manifest_root": load(str(subset(share))).manifest_root,
    }


def judged(folder: Path) -> dict[str, Any]:
    """Return the figures of a run on the test split."""
    evaluation = summary.read(folder)["evaluation"]
    return {
        "test_rows": evaluation["rows"],
        "test": {"figures": evaluation["figures"], "intervals": evaluation["intervals"]},
        "baselines": evaluation["baselines"],
        "comparisons": evaluation["comparisons"],
    }


def flops_a_row(way: str, share: int) -> dict[str, float]:
    """Return the floating-point operations of a training step a row, over eight batches, and the parameters."""
    config = models.resolved(configuration.load(CONFIG, settings(way, share)))
    manifest = load(str(subset(share)))
    objective = objectives.build(config, manifest, torch.device("cpu"))
    model = models.build(config.model, models.features_of(objective.inputs, manifest), objective.outputs)
    rows = flops = 0
    with BatchLoader(manifest, "train", config.train, World(0, 1)) as loader:
        for _, batch in zip(range(8), loader, strict=False):
            rows, flops = rows + batch.rows, flops + training_flops(model, batch.features)
    return {"a_row": flops / rows, "parameters": sum(p.numel() for p in model.parameters())}


def curve(metrics: Path, a_row: float) -> list[dict[str, float]]:
    """Return compute, seconds of the steps and validation accuracy after each epoch."""
    found, seconds, before = [], 0.0, 0
    for line in metrics.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry["kind"] == "train":
            seconds += (entry["position"] - before) / entry["samples_per_second"]
            before = entry["position"]
        elif entry["kind"] == "validation":
            compute = entry["position"] * a_row / 1e12
            found.append({"teraflops": compute, "seconds": seconds, "accuracy": entry["accuracy"]})
    return found


def saved(reference: Mapping[str, Any], warm: Mapping[str, Any], measure: str) -> float | None:
    """Return the share of a reference's compute that a warm start saves until it is as good; None where it never is.

    Compared with the reference at its best validation, not at the end of its training.
    """
    best = max(reference["curve"], key=lambda point: point["accuracy"])
    there = next((point for point in warm["curve"] if point["accuracy"] >= best["accuracy"]), None)
    return None if there is None else 1 - there[measure] / best[measure]


def rows() -> list[Row]:
    """Return the claims with what was measured, over the cells that are kept."""
    found, table = KEPT.read(), list[Row]()
    for share, words in SHARES.items():
        for warm, reference in (("minilm", "random"), ("minilm", "small"), ("own", "small")):
            pair = found.get(f"{warm}-{share}"), found.get(f"{reference}-{share}")
            if pair[0] is not None and pair[1] is not None:
                table += _saved_rows(pair[0], pair[1], words, share)
        if (one := found.get(f"minilm-{share}")) is not None:
            table.append(_accuracy_row(one, words, share))
    if (one := found.get(DEMO)) is not None:
        table.append(_demo_row(one))
    return table


def _saved_rows(warm: dict[str, Any], reference: dict[str, Any], words: str, share: int) -> list[Row]:
    best, reached = (max(point["accuracy"] for point in one["curve"]) for one in (reference, warm))
    against = (
        f"saved by {warm['way']} until it is as good as {reference['way']} at its best, {words} (accuracy on the "
        f"validation split {best:.3f}, {warm['way']} in the end {reached:.3f}; 0: it never is)"
    )
    names = _command(f"{warm['way']}-{share}", f"{reference['way']}-{share}")
    return [
        row(
            f"{measure} {against}", CLAIMED_SAVING, [saved(reference, warm, key) or 0.0], names, at_least=True
        )
        for key, measure in (("teraflops", "operations"), ("seconds", "seconds"))
    ]


def _accuracy_row(one: dict[str, Any], words: str, share: int) -> Row:
    figures, linear = one["test"], one["baselines"]["linear"]["accuracy"]
    accuracy = figures["figures"]["accuracy"]
    claim = f"accuracy of MiniLM, {words}, where the linear baseline has {linear:.3f}"
    interval, command = figures["intervals"]["accuracy"], _command(f"minilm-{share}")
    return stated(claim, CLAIMED_ACCURACY, accuracy, interval, accuracy >= CLAIMED_ACCURACY, command)


def _demo_row(one: dict[str, Any]) -> Row:
    ahead = one["comparisons"]["linear"]["figures"]["accuracy"]
    accuracy, minutes = one["test"]["figures"]["accuracy"], one["seconds"] / 60
    claim = (
        f"accuracy that {MINUTES} minutes on two cores buy ({accuracy:.3f} after {minutes:.1f}, validation included), "
        f"less that of the linear baseline ({one['baselines']['linear']['accuracy']:.3f})"
    )
    holds = ahead["verdict"] == "ahead" and minutes <= MINUTES
    return stated(claim, 0.0, ahead["difference"], ahead["interval"], holds, MAKE)


def _command(*cells: str) -> str:
    return f"{KEPT.command} --only {' '.join(cells)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing, and print the claims; return the exit status."""
    return KEPT.main(argv, __doc__, CELLS, figures, rows)


if __name__ == "__main__":
    sys.exit(command.run(main))
