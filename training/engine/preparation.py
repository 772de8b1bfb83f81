"""Preparation of a training, before its first step."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.errors import DataError, RinglakeError, UsageError
from common.progress import Progress, log
from provenance.checksums import Mode, check_file
from schemas.config import Configuration, canonical_json, with_later_keys
from schemas.manifest import Manifest
from schemas.runs import RUN_FILE
from training import methods, models, objectives
from training.checkpoints import starting, store, tensors
from training.checkpoints.record import CheckpointState, Record
from training.checkpoints.starting import Start
from training.engine import overlap, snapshot
from training.engine.state import TrainContext, TrainState
from training.input.batch_loader import read_need
from training.input.memory import check_memory
from training.input.proof import Proof
from training.parallel import watchdog
from training.parallel.communicator import Communicator, device_of
from training.silos.loading import memory_of, order_of
from training.tracking import summary
from training.tracking.run_files import SUMMARY_FILE

Checkpoint = tuple[Record, CheckpointState]


def check_configuration(config: Configuration, manifest: Manifest) -> None:
    """Raise UsageError if a configuration and a published data set do not belong together.

    The log names other data sections that differ: they took effect when the data set was published.
    """
    configured = config.data_sections()
    published = {
        name: with_later_keys(name, section, configured.get(name, {}))
        for name, section in manifest.content.configuration.items()
    }
    if manifest.content.dataset != config.dataset.name:
        raise UsageError(
            f"the manifest is of the data set {manifest.content.dataset!r}, the configuration of "
            f"{config.dataset.name!r}: give the right one with --manifest"
        )
    for section in ("feature", "columns"):
        if apart := list(_apart(section, configured[section], published[section])):
            raise UsageError(
                f"the configuration is not that of the data set: {'; '.join(apart)}: publish it again, or put the "
                "configuration back"
            )
    # A key of [train] that did nothing would mislead.
    if "where" in (published["balance"].get("policy"), configured["balance"]["policy"]) and (
        published["balance"] != configured["balance"]
    ):
        taken = published["balance"].get("classes")
        raise UsageError(
            f"the configuration's train.where takes the classes {config.train.classes_taken() or 'all'}, the data set "
            f"was published with {taken or 'all'}: publish it again, or put the configuration back"
        )
    objectives.check(config, manifest)
    methods.kind(config.method.kind).check(config, manifest)
    differing = [name for name in configured if configured[name] != published.get(name)]
    if differing:
        log(
            f"note: the configuration has changed in {', '.join(differing)} since the data set was published; "
            "what was published is used"
        )
    if not manifest.splits["train"].rows:
        raise UsageError("the training split of this data set has no rows; publish one that has")
    if config.train.patience is not None and not manifest.splits["validation"].rows:
        raise UsageError(
            "train.patience stops by results on the validation split, and this data set has none: leave it out, or "
            "publish one with split.validation above 0"
        )


def _apart(place: str, configured: Any, published: Any) -> Iterator[str]:
    """Yield in words what differs between two values of the configuration at a place."""
    if isinstance(configured, dict) and isinstance(published, dict):
        for key in sorted({*configured, *published}):
            yield from _apart(f"{place}.{key}", configured.get(key), published.get(key))
    elif isinstance(configured, list) and isinstance(published, list) and len(configured) == len(published):
        for number, pair in enumerate(zip(configured, published, strict=True)):
            yield from _apart(f"{place}.{number}", *pair)
    elif configured != published:
        yield f"{place} is {json.dumps(configured)}, published with {json.dumps(published)}"


def check_run(run: Path, arguments: argparse.Namespace) -> None:
    """Raise UsageError if a training would overwrite, or go on from, something else than it was told.

    `arguments` are those of `training.train`. Raises DataError if the summary of an earlier training is damaged.
    """
    if arguments.again or (arguments.resume and store.has_any(run)):
        return
    if arguments.resume == "yes" and not (run / RUN_FILE).exists():
        raise UsageError(
            f"there is no run {run.name!r} in {run.parent} to go on from: mend --run, or begin it with --resume=auto"
        )
    others = "give another name with --run, or remove what is there and begin anew with --again"
    if store.has_any(run):
        raise UsageError(
            f"the run {run.name!r} was trained before, {run} holds its checkpoints: go on with --resume, {others}"
        )
    if "training" in summary.read(run):
        raise UsageError(
            f"the run {run.name!r} was trained to its end, {run} holds its {SUMMARY_FILE} but no checkpoints: put "
            f"these back from a copy and go on with --resume, {others}"
        )


def last_checkpoint(
    config: Configuration, manifest: Manifest, run: Path, new_data: bool
) -> Checkpoint | None:
    """Return the last good checkpoint to go on from; None if there is none yet.

    Raises UsageError if none is good, or it does not fit the manifest or the configuration.
    """
    found = store.last_good(run, log)
    if found is not None:
        store.check_fits(*found, config, manifest.manifest_root, run, new_data)
    elif store.has_any(run):
        raise UsageError(
            f"no checkpoint of the run {run.name!r} is good, see above: put one back from a copy, or begin anew "
            "with --again, which removes them"
        )
    else:
        log(f"the run {run.name!r} has no checkpoint to go on from; it begins")
    return found


def find_checkpoint(
    config: Configuration, manifest: Manifest, run: Path, communicator: Communicator, new_data: bool
) -> Checkpoint | None:
    """Find the last good checkpoint: its record on all ranks, its content on rank 0 alone, which shares it.

    Raises UsageError on all ranks if it does not fit the manifest or the configuration.
    """
    found: Checkpoint | None = None
    error: RinglakeError | None = None
    if communicator.writes:
        try:
            found = last_checkpoint(config, manifest, run, new_data)
        except UsageError as unfit:
            error = unfit
    communicator.agree(error)
    record: Record | None = communicator.broadcast(None if found is None else found[0])
    if record is None:
        return None
    return record, {} if found is None else found[1]


def begin(
    config: Configuration,
    manifest: Manifest,
    run: Path,
    communicator: Communicator,
    arguments: argparse.Namespace,
) -> tuple[bool, Checkpoint | None]:
    """Return whether the run is already finished, and the checkpoint to resume from; verify the data of an unfinished
    run.

    `arguments` are those of `training.train`. Raises as `find_checkpoint` and `verify` do.
    """
    found = None
    error: RinglakeError | None = None
    if communicator.writes:
        try:
            check_run(run, arguments)
        except RinglakeError as refused:
            error = refused
    communicator.agree(error)
    if arguments.resume:
        found = find_checkpoint(config, manifest, run, communicator, arguments.new_data)
    same_data = found is not None and found[0].manifest_root == manifest.manifest_root
    if found is not None and same_data and is_complete(run, found[0], communicator):
        if communicator.writes:
            log(f"the run {run.name!r} is finished already; its summary is {run / SUMMARY_FILE}")
        return True, found
    verify_files(manifest, arguments.verify, config, communicator)
    return False, found


def is_complete(run: Path, record: Record, communicator: Communicator) -> bool:
    """Return True if the run is finished and its summary names that checkpoint.

    Raises DataError on all ranks if the summary is damaged.
    """
    complete, error = False, None
    if communicator.writes and record.finished:
        try:
            training = summary.read(run).get("training", {})
            complete = training.get("checkpoint_sha256") == record.sha256
        except DataError as damaged:
            error = damaged
    communicator.agree(error)
    return bool(communicator.broadcast(complete))


def verify_files(manifest: Manifest, mode: Mode, config: Configuration, communicator: Communicator) -> None:
    """Re-hash all shards and artifacts, each on one rank; raise DataError on all ranks if one is damaged."""
    if mode == "off":
        return
    files = [
        (manifest.shard_uri(shard), shard.sha256, shard.bytes)
        for split in manifest.splits.values()
        for shard in split.shards
    ]
    files += [(manifest.artifact_uri(a.sha256), a.sha256, a.bytes) for a in manifest.content.artifacts]
    mine = files[communicator.world.rank :: communicator.world.size]
    error: RinglakeError | None = None
    bar = (
        Progress("verifying shards", sum(size for _, _, size in mine), "bytes")
        if communicator.writes
        else None
    )

    def progress(read: int) -> None:
        watchdog.step()
        if bar is not None:
            bar.update(read)

    try:
        for location, sha256, size in mine:
            check_file(location, sha256, size, mode, config.storage, progress)
    except RinglakeError as found:
        error = found
    if bar is not None:
        bar.close()
    communicator.agree(error)


def prepare(
    config: Configuration, manifest: Manifest, run: Path, communicator: Communicator, found: Checkpoint | None
) -> tuple[TrainContext, TrainState]:
    """Build context and state, with model, objective and method the same on all ranks.

    Raises UsageError for too many ranks or too little memory.
    """
    settings = config.train
    order = order_of(manifest, config.method, settings)
    order.check_world(communicator.world)
    reading, told = memory_of(config, manifest, communicator.world)
    # While the validation split is read, the training's reader keeps what it has read ahead.
    validating = read_need(
        manifest, "validation", settings, communicator.world, config.evaluate.batch, config.storage
    ).total
    if communicator.writes:
        log(f"reading holds at most {told}; validating {validating / 2**20:,.1f} more")
    error: RinglakeError | None = None
    try:
        check_memory(reading + validating, settings)
    except UsageError as refused:
        error = refused
    communicator.agree(error)
    device = device_of(communicator)
    objective = objectives.build(config, manifest, device)
    torch.manual_seed(settings.seed)
    features = models.features_of(objective.inputs, manifest, config.storage)
    model = models.build(config.model, features, objective.outputs)
    state, start = TrainState(), None
    if found is None and config.model.first_weights() is not None:
        if communicator.writes:
            try:
                start = _started(model, config, manifest, state)
            except RinglakeError as refused:
                error = refused
        communicator.agree(error)
        state = communicator.broadcast(state)
    if found is not None:
        record, saved = found
        if communicator.writes:
            tensors.load_model(model, saved, record.file)
            snapshot.restore(state, saved, writes=True)
            state.seconds, state.seconds_waited = record.seconds, record.seconds_waited
            if record.manifest_root != manifest.manifest_root:
                take_up(state, record, saved, manifest)
        shared = communicator.broadcast(
            replace(state, proof=Proof(), loss=torch.zeros(2, dtype=torch.float64))
        )
        state = state if communicator.writes else shared
    model.to(device)
    models.freeze(model, settings.freeze or ())
    steps = order.steps(settings.batch) * settings.epochs
    method = methods.build(
        methods.MethodContext(
            model,
            objective,
            config.method,
            config.optimizer,
            settings,
            communicator,
            device,
            steps,
            methods.RunContext(config, manifest, run),
        )
    )
    if found is not None and communicator.writes:
        method.load_state(found[1]["method"])
    method.broadcast()
    context = TrainContext(config, manifest, run, communicator, device, model, objective, method, start)
    try:
        check_terms(context)
    except UsageError as refused:
        error = refused
    communicator.agree(error)
    return context, state


def _started(model: nn.Module, config: Configuration, manifest: Manifest, state: TrainState) -> Start:
    """Begin with the weights of `model.start`. Raises UsageError as `starting.find` and `starting.take` do."""
    found = starting.find(config, manifest)
    assert found is not None
    start = starting.take(model, config, found)
    if found.run is not None:
        start = replace(start, overlap=overlap.overlap(found.run, config, manifest))
        for sentence in overlap.sentences(start.overlap):
            log(f"warning: {sentence}")
    state.origin["started_from"] = found.sha256
    return start


@torch.no_grad()
def check_terms(context: TrainContext) -> None:
    """Compute the terms of one batch, before anything that an earlier training left is removed.

    Raises UsageError as `models.check_outputs` and `objectives.terms_of` do.
    """
    with context.loader() as loader:
        batch = next(loader)
        if batch.rows:
            model, objective, batch = context.model.eval(), context.objective, batch.to(context.device)
            models.check_outputs(
                context.config.model.kind, model(batch.features), objective.outputs, batch.rows
            )
            objectives.terms_of(objective, model, batch)


def take_up(state: TrainState, record: Record, saved: CheckpointState, manifest: Manifest) -> None:
    """Turn the state that a training reached on other data into the start of one on these data."""
    columns = canonical_json([c.model_dump(mode="json") for c in manifest.content.columns]).decode()
    if columns != saved["columns"]:
        log(
            "warning: the columns of these data are not those of the checkpoint's (another tokenizer or other "
            "classes): the weights begin with other meanings of the token ids or the labels"
        )
    kept = {key: value for key, value in state.origin.items() if key == "started_from"}
    origin = {"step": state.step, "manifest_root": record.manifest_root, "chain": record.chain}
    state.origin = {**origin, **kept}
    state.position, state.proof, state.validation = 0, Proof(), []
    state.loss = torch.zeros(2, dtype=torch.float64)
    log(
        f"goes on from step {state.step:,} with the weights that were trained on {record.manifest_root[:16]}…"
    )
