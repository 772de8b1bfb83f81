"""What comes before the first step of a training and after its last."""

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from common import command, storage
from common.errors import CheckError, RinglakeError, UsageError
from common.progress import Progress, say
from provenance.checksums import Mode, check_file
from schemas.config import Configuration, canonical_json
from schemas.manifest import Manifest
from schemas.runs import RUN_FILE
from training import methods, models
from training.checkpoints import store
from training.checkpoints.saver import Saver
from training.engine import non_finite, snapshot
from training.engine.loop import Commit, Job, Loop, Place
from training.input import class_balance
from training.input.batch_loader import columns_of, read_need, split_order
from training.input.memory import check_memory
from training.parallel import watchdog
from training.parallel.communicator import Ring, device_of
from training.tracking import summary
from training.tracking.metrics import EVENTS, NAME, Metrics, Proof

Found = tuple[store.Record, store.State]
PACKAGES = ("torch", "horovod", "petastorm", "pyarrow", "numpy")


def check_configuration(config: Configuration, manifest: Manifest) -> None:
    """Raises UsageError where a configuration and a published data set do not belong together.

    Says which other data sections differ: they had their effect when the data set was published.
    """
    published, configured = manifest.content.configuration, config.data_sections()
    if manifest.content.dataset != config.dataset.name:
        raise UsageError(
            f"the manifest is of the data set {manifest.content.dataset!r}, the configuration of "
            f"{config.dataset.name!r}: give the right one with --manifest"
        )
    for section in ("feature", "columns"):
        if published[section] != configured[section]:
            raise UsageError(
                f"the configuration's {section} is {json.dumps(configured[section])}, the data set was published with "
                f"{json.dumps(published[section])}: publish it again, or put the configuration back"
            )
    manifest.column("label")
    differing = [name for name in configured if configured[name] != published.get(name)]
    if differing:
        say(
            f"note: the configuration has changed in {', '.join(differing)} since the data set was published; "
            "what was published is used"
        )
    if not manifest.splits["train"].rows:
        raise UsageError("the training split of this data set has no rows; publish one that has")


def find_checkpoint(
    config: Configuration, manifest: Manifest, run: Path, ring: Ring, new_data: bool
) -> Found | None:
    """The last good checkpoint, for all ranks its record; the content is filled on rank 0 alone, which shares it.

    Raises UsageError on all ranks where it does not fit the manifest or the configuration.
    """
    found: Found | None = None
    error: RinglakeError | None = None
    if ring.writes:
        found = store.last_good(run, say)
        if found is None:
            if store.has_any(run):
                error = UsageError(
                    f"no checkpoint of the run {run.name!r} is good, see above: put one back from a copy, or train "
                    "without --resume, which starts afresh and removes them"
                )
            else:
                say(f"the run {run.name!r} has no checkpoint to go on from; it starts afresh")
        else:
            try:
                store.check_fits(*found, config, manifest.manifest_root, run, new_data)
            except UsageError as unfit:
                error = unfit
    ring.agree(error)
    record: store.Record | None = ring.broadcast(None if found is None else found[0])
    if record is None:
        return None
    return record, {} if found is None else found[1]


def begin(
    config: Configuration, manifest: Manifest, run: Path, ring: Ring, arguments: argparse.Namespace
) -> tuple[bool, Found | None]:
    """Whether the run is finished already, and where not, the checkpoint to go on from; then the data are verified.

    `arguments` are those of `training.train`. Raises as `find_checkpoint` and `verify` do.
    """
    found = None
    if arguments.resume:
        found = find_checkpoint(config, manifest, run, ring, arguments.new_data)
    same_data = found is not None and found[0].manifest_root == manifest.manifest_root
    if found is not None and same_data and is_complete(run, found[0], ring):
        if ring.writes:
            say(f"the run {run.name!r} is finished already; its summary is {run / summary.NAME}")
        return True, found
    verify(manifest, arguments.verify, config, ring)
    return False, found


def is_complete(run: Path, record: store.Record, ring: Ring) -> bool:
    """True where the run is finished and its summary tells of that checkpoint."""
    complete = False
    if ring.writes and record.finished:
        training = summary.read(run).get("training", {})
        complete = training.get("checkpoint_sha256") == record.sha256
    return bool(ring.broadcast(complete))


def verify(manifest: Manifest, mode: Mode, config: Configuration, ring: Ring) -> None:
    """Re-hashes all shards and artifacts, each on one rank; raises DataError on all ranks where one is damaged."""
    if mode == "off":
        return
    files = [
        (manifest.shard_uri(shard), shard.sha256, shard.bytes)
        for split in manifest.splits.values()
        for shard in split.shards
    ]
    files += [(manifest.artifact_uri(a.sha256), a.sha256, a.bytes) for a in manifest.content.artifacts]
    mine = files[ring.world.rank :: ring.world.size]
    error: RinglakeError | None = None
    bar = Progress("verifying shards", sum(size for _, _, size in mine), "bytes") if ring.writes else None

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
    ring.agree(error)


def prepare(
    config: Configuration, manifest: Manifest, run: Path, ring: Ring, found: Found | None
) -> tuple[Job, Place]:
    """Model, optimiser and place, the same on all ranks. Raises UsageError for too many ranks or too little memory."""
    settings = config.train
    order = split_order(manifest, "train", settings)
    order.check_world(ring.world)
    columns = columns_of(manifest)
    need = read_need(manifest, "train", settings, ring.world, options=config.storage)
    # While the validation split is read, the reader of the training keeps what it has read ahead.
    validating = read_need(
        manifest, "validation", settings, ring.world, config.evaluate.batch, config.storage
    ).total
    if ring.writes:
        say(
            f"reading holds at most {need.total / 2**20:,.1f} MiB on this rank: "
            f"{need.slots} windows of up to {need.slot_rows:,} rows {need.windows_bytes / 2**20:,.1f}, "
            f"their order {need.index_bytes / 2**20:,.1f}, "
            f"read ahead {need.ahead_bytes / 2**20:,.1f}, being placed {need.blocks_bytes / 2**20:,.1f}; "
            f"validating {validating / 2**20:,.1f} more"
        )
    error: RinglakeError | None = None
    try:
        check_memory(need.total + validating, settings)
    except UsageError as refused:
        error = refused
    ring.agree(error)
    device = device_of(ring)
    classes = manifest.classes(config.storage)
    torch.manual_seed(settings.seed)
    model = models.build(config.model, [c for c in columns if c.role == "feature"], len(classes))
    place = Place()
    if found is not None:
        record, state = found
        if ring.writes:
            store.load_model(model, state, record.file)
            snapshot.restore_place(place, state, writes=True)
            place.seconds, place.seconds_waited = record.seconds, record.seconds_waited
            if record.manifest_root != manifest.manifest_root:
                take_up(place, record, state, manifest)
        shared = ring.broadcast(replace(place, proof=Proof(), loss=torch.zeros(2, dtype=torch.float64)))
        place = place if ring.writes else shared
    model.to(device)
    steps = order.steps(settings.batch) * settings.epochs
    method = methods.build(
        methods.Setting(
            model,
            config.optimizer,
            settings,
            ring,
            device,
            steps,
            class_balance.loss_weights(manifest, device, config.storage),
        )
    )
    if found is not None and ring.writes:
        method.load_state(found[1]["method"])
    method.broadcast()
    return Job(config, manifest, run, ring, device, model, method), place


def take_up(place: Place, record: store.Record, state: store.State, manifest: Manifest) -> None:
    """Makes a place, which a training on other data reached, the beginning of one on these."""
    columns = canonical_json([c.model_dump(mode="json") for c in manifest.content.columns]).decode()
    if columns != state["columns"]:
        say(
            "warning: the columns of these data are not those of the checkpoint's (another tokenizer or other "
            "classes): the weights begin with other meanings of the token ids or the labels"
        )
    place.origin = {"step": place.step, "manifest_root": record.manifest_root, "chain": record.chain}
    place.position, place.proof, place.validation = 0, Proof(), []
    place.loss = torch.zeros(2, dtype=torch.float64)
    say(
        f"goes on from step {place.step:,} with the weights that were trained on {record.manifest_root[:16]}…"
    )


def begin_run(job: Job, location: str, given: list[str], last: store.Record | None) -> None:
    """Makes the run's folder ready and writes run.json.

    A fresh start, where there is no `last` checkpoint, removes what an earlier one left there; else what came after
    that checkpoint is set aside.
    """
    job.run.mkdir(parents=True, exist_ok=True)
    if last is not None:
        aside = store.go_on_from(job.run, last)
        if aside:
            say(f"set aside as .rejected: {', '.join(aside)}")
        # They tell of the end that the run had before it went on.
        for name in (summary.NAME, "report.html", "evaluation.json"):
            store.remove_quietly(job.run / name)
        non_finite.cut_back(job.run, last.step)
    else:
        removed = store.clear(job.run)
        if removed or (job.run / summary.NAME).exists():
            say(f"the run {job.run.name!r} starts afresh: its earlier checkpoints and results are removed")
        for name in (summary.NAME, NAME, non_finite.NAME, "report.html", "evaluation.json"):
            store.remove_quietly(job.run / name)
        shutil.rmtree(job.run / EVENTS, ignore_errors=True)
    world = job.ring.world
    launcher = f"horovodrun -np {world.size} " if world.size > 1 else ""
    document = {
        "command": f"{launcher}python -m training.train {shlex.join(command.without_credentials(given))}",
        "folder": str(Path.cwd()),
        "manifest": storage.absolute(location),
        "manifest_root": job.manifest.manifest_root,
        "goes_on_from": None if last is None else last.chain,
        "configuration_sha256": job.config.sha256(),
        # Credentials stay out.
        "configuration": job.config.model_dump(mode="json", exclude={"storage"}),
        "environment": environment(job),
    }
    content = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    store.write_atomically(job.run / RUN_FILE, content.encode())


def environment(job: Job) -> dict[str, Any]:
    """Versions, machine and world of a training."""
    return {
        "python": sys.version.split()[0],
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "host": platform.node(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "device": str(job.device),
        "threads": job.config.train.threads,
        "world_size": job.ring.world.size,
    }


def run_loop(
    job: Job,
    place: Place,
    last: store.Record | None,
    stop_after: int | None,
    commit: Commit | None = None,
) -> bool:
    """Trains; True when finished. Rank 0 writes the metrics, and checkpoints that follow `last` in the chain.

    `commit` is called by all ranks every `train.commit_every` steps, and whenever a checkpoint is saved.
    Raises CheckError on all ranks where the last checkpoint could not be written.
    """
    if job.ring.writes:
        parameters = sum(p.numel() for p in job.model.parameters())
        settings = job.config.train
        say(
            f"training {parameters:,} parameters on {job.rows:,} rows × {settings.epochs} epochs "
            f"(class balance: {job.manifest.splits['train'].balance.policy}) in global batches of "
            f"{settings.batch}, {job.ring.world.size} rank(s)"
            + (f", from step {place.step:,} on" if place.step else "")
        )
        with (
            Saver(job.run, settings.keep_checkpoints, last, say) as saver,
            Metrics(job.run, place.step) as metrics,
        ):
            loop = Loop(job, place, metrics, saver, commit)
            finished = loop.train(stop_after)
            written = saver.wait()
            place.seconds_held += saver.seconds_held
            place.failed_saves += saver.failures
    else:
        finished, written = Loop(job, place, None, None, commit).train(stop_after), True
    job.ring.agree(
        None
        if written
        else CheckError(
            f"the last checkpoint of the run {job.run.name!r} could not be written; make room in {job.run} or mend its "
            "permissions, then go on with --resume"
        )
    )
    return finished


def finish(job: Job, place: Place, location: str) -> None:
    """Compares the weights of all ranks and writes the summary. Raises CheckError where they differ."""
    weights = store.weights_sha256(job.model)
    if len(set(job.ring.gather(weights))) > 1:
        raise CheckError("the ranks ended with different weights; please report it with the configuration")
    if not job.ring.writes:
        return
    found = store.last_good(job.run, say)
    if found is None or not found[0].finished:
        raise CheckError(f"the last checkpoint in {job.run} is not that of the finished training")
    record = found[0]
    training = {
        "world_size": job.ring.world.size,
        "epochs": job.config.train.epochs,
        "steps": record.step,
        "samples_seen": record.position,
        "seconds": round(place.seconds, 3),
        "samples_per_second": round(record.position / max(place.seconds, 1e-9), 1),
        "input_wait_share": round(place.seconds_waited / max(place.seconds, 1e-9), 6),
        "checkpoint": str(store.folder_of(job.run) / record.file),
        "checkpoint_sha256": record.sha256,
        "checkpoint_chain": record.chain,
        "checkpoint_wait_share": round(place.seconds_held / max(place.seconds, 1e-9), 6),
        "checkpoints_failed": place.failed_saves,
        "batches_skipped": place.skipped,
        "weights_sha256": weights,
    }
    summary.update(job.run, dataset=summary.dataset_section(job.manifest, location), training=training)
    say(
        f"trained {record.step:,} steps in {place.seconds:.1f} s, {training['samples_per_second']:,} rows/s, "
        f"{100 * float(str(training['input_wait_share'])):.2f}% of it waiting for input; "
        f"summary: {job.run / summary.NAME}"
    )
