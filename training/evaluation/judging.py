"""Evaluation of a run's checkpoint on a split, and its output files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from common.errors import UsageError
from common.progress import Progress, log
from schemas.config import Configuration
from schemas.kinds import AnyModel, AnyObjective
from schemas.manifest import Manifest, resolve
from schemas.runs import RUN_FILE, manifest_of
from schemas.settings import Augment
from schemas.tables import Layout
from training import models
from training.adversarial import judging as under_attack
from training.checkpoints import store, tensors
from training.checkpoints.record import CheckpointState, Record
from training.comparison.assessment import assess
from training.comparison.units import UnknownUnits, units_of
from training.input.batch_loader import BatchLoader
from training.input.proof import Proof
from training.objectives import Judgement, Objective
from training.parallel.world import World
from training.tracking import summary
from training.tracking.run_files import DECISION_FILE, EVALUATION_FILE, write_json


def manifest_location(config: Configuration, run: Path, given: str | None, root: str | None) -> str:
    """Return where the given manifest lies, or that which a run was trained on, or the newest without run.json."""
    layout = Layout.of(config)
    if given is None:
        try:
            began = json.loads((run / RUN_FILE).read_bytes())
            return manifest_of(run, began, config.storage, layout, root)
        except (OSError, ValueError, KeyError, TypeError):
            given = "latest"  # the root is compared with the checkpoint's anyway
    return resolve(given, layout.manifests, config.storage)


def find_checkpoint(run: Path, given: str | None) -> tuple[Record, CheckpointState]:
    """Load the given checkpoint, a path or a name in the run's folder, or the run's best.

    Raises UsageError if there is none.
    """
    if given is not None:
        return _given_checkpoint(run, given)
    found = store.best_good(run, log)
    if found is None:
        raise UsageError(f"the run {run.name!r} has no checkpoint in {store.folder_of(run)}; train it first")
    return found


def _given_checkpoint(run: Path, given: str) -> tuple[Record, CheckpointState]:
    places = (Path(given), store.folder_of(run) / given) if Path(given).name else ()
    file = next((place for place in places if place.with_suffix(".pt").exists()), None)
    if file is None:
        raise UsageError(f"there is no checkpoint {given!r}, neither here nor in {store.folder_of(run)}")
    record, state = store.read(file.with_suffix(".json"))
    if record.sha256 not in {one.sha256 for one in store.read_chain(run)}:
        raise UsageError(f"{file} is no checkpoint of the run {run.name!r}, whose chain does not have it")
    log(f"takes the checkpoint {file}, as told")
    return record, state


def check_manifest(run: Path, record: Record, manifest: Manifest, location: str, remedy: str) -> None:
    """Raise UsageError unless a checkpoint was trained on this manifest, whose ids and statistics it takes."""
    if record.manifest_root != manifest.manifest_root:
        raise UsageError(
            f"the checkpoint {record.file} of the run {run.name!r} was trained on the manifest root "
            f"{record.manifest_root[:16]}…, but {location} has {manifest.manifest_root[:16]}…: {remedy}"
        )


def as_trained(config: Configuration, state: CheckpointState) -> Configuration:
    """Return the configuration with the model, the objective and the augmentation that a checkpoint was trained with.

    Raises UsageError for a kind that is not installed here.
    """
    decisive = json.loads(state["decisive"])
    try:
        model: AnyModel = TypeAdapter(AnyModel).validate_python(decisive["model"])
        objective: AnyObjective = TypeAdapter(AnyObjective).validate_python(decisive["objective"])
    except ValidationError as error:
        used = [f"{room}.kind = {decisive[room]['kind']!r}" for room in ("model", "objective")]
        raise UsageError(
            f"the checkpoint was trained with {' and '.join(used)}, of which one is not installed here, or has other "
            "keys"
        ) from error
    augment = Augment.model_validate(decisive.get("augment", {}))
    return config.model_copy(update={"model": model, "objective": objective, "augment": augment})


def method_of(state: CheckpointState) -> dict[str, Any]:
    """Return the section `[method]` that a checkpoint was trained with, as plain values."""
    found: dict[str, Any] = json.loads(state["decisive"]).get("method", {})
    return found


def build_model(
    config: Configuration, manifest: Manifest, objective: Objective, state: CheckpointState, record: Record
) -> nn.Module:
    """Build the model with the weights of a checkpoint."""
    features = models.features_of(objective.inputs, manifest, config.storage)
    model = models.build(config.model, features, objective.outputs)
    tensors.load_model(model, state, record.file)
    return model.eval()


@torch.no_grad()
def judge(
    model: nn.Module, objective: Objective, manifest: Manifest, config: Configuration, split: str = "test"
) -> Judgement:
    """Compute the figures on a split. Raises CheckError if a row was not read exactly once."""
    found, world, options = objective.judge(), World(0, 1), config.storage
    batch, with_ids = config.evaluate.batch, objective.judged_by_ids
    for each in ("validation", split) if objective.chooses_on_validation else (split,):
        proof, content = Proof(), manifest.splits[each]
        with (
            BatchLoader(
                manifest, each, config.train, world, batch=batch, options=options, with_ids=with_ids
            ) as loader,
            Progress(f"evaluating {each}", content.rows, "rows") as progress,
        ):
            for part in loader:
                proof.add(part.keys)
                found.add(part, objective.predict(model, part))
                progress.update(part.rows)
        proof.check(content, f"the evaluation of the {each} split")
    return objective.examined(model, found.judgement())


def write_without_rows(run: Path, record: Record, objective: Objective, split: str) -> None:
    """Write both files for a split without rows: null in place of each figure, so that none passes for a result."""
    which = _which(record, objective, split)
    document = {"manifest_root": record.manifest_root, **which, "model": None, "baselines": {}}
    write_json(run / EVALUATION_FILE, document)
    section = {**which, "rows": 0, "figures": {}, "intervals": {}, "baselines": {}, "comparisons": {}}
    summary.update(run, evaluation={**section, **objective.summary_without_rows()})


def compared(
    found: Judgement,
    baselines: Mapping[str, Judgement],
    manifest: Manifest,
    config: Configuration,
    split: str,
) -> tuple[Judgement, dict[str, Judgement]]:
    """Return the judgements with intervals and comparisons, for those with results of rows.

    Raises CheckError where a baseline was judged on other rows.
    """
    names = [name for name, one in baselines.items() if one.results is not None]
    if found.results is None or not found.rows:
        return found, dict(baselines)
    others = [one.results for one in baselines.values() if one.results is not None]
    units, known = None, True
    try:
        units = units_of(manifest, split, found.results.keys, config.storage)
    except UnknownUnits as error:
        log(f"note: rows of one group count as independent, because silver cannot be read ({error})")
        known = False
    log(f"draws the {split} split again, to tell differences from chance …")
    assessed = assess([found.results, *others], units)
    filled = {
        name: replace(
            baselines[name], intervals=intervals, comparison=replace(comparison, groups_known=known)
        )
        for name, intervals, comparison in zip(
            names, assessed.intervals[1:], assessed.comparisons, strict=True
        )
    }
    return replace(found, intervals=assessed.intervals[0]), {**baselines, **filled}


def write(
    run: Path,
    record: Record,
    objective: Objective,
    split: str,
    found: Judgement,
    baselines: Mapping[str, Judgement],
    augmented: Sequence[Mapping[str, Any]] = (),
    attacks: Mapping[str, Any] | None = None,
) -> None:
    """Write evaluation.json, and the section `evaluation` of summary.json. Raises DataError where it cannot."""
    which = _which(record, objective, split)
    document = {
        "manifest_root": record.manifest_root,
        **which,
        "model": found.as_json(),
        "baselines": {name: one.as_json() for name, one in baselines.items()},
        "augmented": list(augmented),
        **({} if attacks is None else {"attacks": attacks}),
    }
    write_json(run / EVALUATION_FILE, document)
    if decision := objective.decision(found):
        write_json(run / DECISION_FILE, {"manifest_root": record.manifest_root, **which, **decision})
    section = {
        **which,
        "rows": found.rows,
        "figures": found.figures,
        "intervals": found.intervals,
        "baselines": {name: one.figures for name, one in baselines.items()},
        "comparisons": {
            name: one.comparison.summary() for name, one in baselines.items() if one.comparison is not None
        },
        **objective.summary(found, baselines),
        **({} if attacks is None else {"attacks": under_attack.summary(attacks)}),
        "outdated": summary.outdated(run, which),
    }
    summary.update(run, evaluation=section)


def _which(record: Record, objective: Objective, split: str) -> dict[str, Any]:
    return {
        "objective": objective.config.objective.kind,
        "checkpoint": record.file,
        "checkpoint_sha256": record.sha256,
        "step": record.step,
        "split": split,
    }
