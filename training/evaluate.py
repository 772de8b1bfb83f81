"""Judges a run on the test split: `python -m training.evaluate --config FILE --run NAME`.

The model of the run's last good checkpoint, side by side with a linear baseline on the same rows. The figures go to
summary.json (`evaluation`) and, with the confusion matrices, to evaluation.json in the run's folder.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import nn

from common import command
from common.errors import UsageError
from common.progress import Progress, say
from schemas.config import Configuration, load
from schemas.kinds import AnyModel
from schemas.manifest import Manifest, resolve
from schemas.manifest import load as load_manifest
from schemas.runs import RUN_FILE
from schemas.tables import Layout
from training import models
from training.checkpoints import store
from training.evaluation.linear_baseline import Baseline, evaluate_baseline
from training.input.batch_loader import Feed, columns_of
from training.input.order import World
from training.objectives.scores import Scores, scores
from training.tracking import summary
from training.tracking.metrics import Proof
from training.train import run_folder

NAME = "evaluation.json"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    flags = command.configuration_parser("python -m training.evaluate", __doc__)
    flags.add_argument("--run", required=True, metavar="NAME", help="the folder below train.runs")
    command.add_manifest_flags(
        flags, None, "a manifest, or latest; by default the one that the run was trained on"
    )
    flags.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="one of the run's checkpoints (.pt); by default the last good one",
    )
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    arguments = parser().parse_args(argv)
    config = load(arguments.config, arguments.overrides)
    run = run_folder(config, arguments.run)
    record, state = find_checkpoint(run, arguments.checkpoint)
    location = resolve(arguments.manifest or manifest_of(run), Layout.of(config).manifests, config.storage)
    manifest = load_manifest(location, config.storage)
    if record.manifest_root != manifest.manifest_root:
        raise UsageError(
            f"the checkpoint {record.file} of the run {run.name!r} was trained on the manifest root "
            f"{record.manifest_root[:16]}…, but {location} has {manifest.manifest_root[:16]}…: give the "
            "manifest that it was trained on with --manifest"
        )
    torch.set_num_threads(config.train.threads)
    classes = manifest.classes(config.storage)
    model = build_model(manifest, state, record, len(classes))
    found = evaluate_model(model, manifest, config, classes)
    baseline = evaluate_baseline(manifest, config, classes) if config.evaluate.baseline else None
    write(run, record, manifest, found, baseline)
    print(table(found, baseline))
    return 0


def manifest_of(run: Path) -> str:
    """The manifest that a run was trained on, as run.json names it; `latest` without one."""
    try:
        document = json.loads((run / RUN_FILE).read_bytes())
        return str(document["manifest"])
    except (OSError, ValueError, KeyError, TypeError):
        return "latest"  # the root is compared with the checkpoint's in any case


def find_checkpoint(run: Path, given: str | None) -> tuple[store.Record, store.State]:
    """The given checkpoint, or the run's last good one. Raises UsageError when there is none."""
    if given is not None:
        return store.read(Path(given).with_suffix(".json"))
    found = store.last_good(run, say)
    if found is None:
        raise UsageError(f"the run {run.name!r} has no checkpoint in {store.folder_of(run)}; train it first")
    return found


def build_model(manifest: Manifest, state: store.State, record: store.Record, classes: int) -> nn.Module:
    """The model as it was trained, whatever the configuration says by now."""
    settings: AnyModel = TypeAdapter(AnyModel).validate_python(json.loads(state["decisive"])["model"])
    features = [column for column in columns_of(manifest) if column.role == "feature"]
    model = models.build(settings, features, classes)
    store.load_model(model, state, record.file)
    return model.eval()


@torch.no_grad()
def evaluate_model(
    model: nn.Module, manifest: Manifest, config: Configuration, classes: Sequence[str]
) -> Scores:
    """The scores on the test split. Raises CheckError when not every row of it was read exactly once."""
    labels, predicted, proof = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], Proof()
    test = manifest.splits["test"]
    world, batch = World(0, 1), config.evaluate.batch
    with (
        Feed(manifest, "test", config.train, world, batch=batch, options=config.storage) as feed,
        Progress("evaluating", test.rows, "rows") as progress,
    ):
        for part in feed:
            assert part.labels is not None  # the command needs a label column: `manifest.classes`
            proof.add(part.keys)
            labels.append(part.labels.numpy())
            predicted.append(model(part.features).argmax(dim=1).numpy())
            progress.update(part.rows)
    proof.check(test, "the evaluation")
    return scores(np.concatenate(labels), np.concatenate(predicted), classes)


def write(
    run: Path,
    record: store.Record,
    manifest: Manifest,
    found: Scores,
    baseline: Baseline | None,
) -> None:
    """Writes evaluation.json, and the section `evaluation` of summary.json."""
    linear = None if baseline is None else baseline.test
    section: dict[str, Any] = {
        "accuracy": found.accuracy,
        "macro_f1": found.macro_f1,
        "baseline_accuracy": None if linear is None else linear.accuracy,
        "baseline_macro_f1": None if linear is None else linear.macro_f1,
        "rows": found.rows,
        "checkpoint": record.file,
        "checkpoint_sha256": record.sha256,
        "classes": {c.label: {"rows": c.rows} | _three(c.precision, c.recall, c.f1) for c in found.classes},
    }
    document: dict[str, Any] = {
        "manifest_root": manifest.manifest_root,
        "checkpoint": record.file,
        "checkpoint_sha256": record.sha256,
        "model": found.as_json(),
        "baseline": None,
    }
    if baseline is not None:
        section["baseline_classes"] = {
            c.label: _three(c.precision, c.recall, c.f1) for c in baseline.test.classes
        }
        document["baseline"] = {
            **baseline.test.as_json(),
            "regularisation": baseline.regularisation,
            "validation_accuracy": baseline.validation_accuracy,
            "converged": baseline.converged,
        }
    content = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    store.write_atomically(run / NAME, content.encode())
    summary.update(run, evaluation=section)


def _three(precision: float, recall: float, f1: float) -> dict[str, float]:
    return {"precision": precision, "recall": recall, "f1": f1}


def table(found: Scores, baseline: Baseline | None) -> str:
    """The figures for a terminal."""
    width = max([8, *(len(c.label) for c in found.classes)])
    linear = None if baseline is None else baseline.test
    lines = [f"{'':<{width}}  {'model':>8}" + (f"  {'baseline':>8}" if linear else "")]

    def line(name: str, model: float, other: float | None) -> None:
        lines.append(f"{name:<{width}}  {model:>8.3f}" + (f"  {other:>8.3f}" if other is not None else ""))

    line("accuracy", found.accuracy, linear.accuracy if linear else None)
    line("macro F1", found.macro_f1, linear.macro_f1 if linear else None)
    lines.append("F1 by class")
    for place, one in enumerate(found.classes):
        line(one.label, one.f1, linear.classes[place].f1 if linear else None)
    if baseline is not None:
        lines.append(f"baseline: C = {baseline.regularisation:g}, chosen on the validation split")
        if not baseline.converged:
            lines.append(
                "the baseline's regression did not converge: its figures are a lower bound of what it can do"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(command.run(main))
