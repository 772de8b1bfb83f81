"""A training from the first step to the last, and the files written before and after."""

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, Literal

from common import command, files, storage
from common.errors import CheckError, DataError
from common.progress import log
from common.wording import counted
from schemas import lopsided
from schemas.runs import RUN_FILE
from training.checkpoints import store, tensors
from training.checkpoints.record import Record
from training.checkpoints.saver import Saver
from training.engine.loop import Loop, OnCommit
from training.engine.state import TrainContext, TrainState
from training.silos.loading import order_of
from training.tracking import non_finite, summary
from training.tracking.metrics import Metrics
from training.tracking.run_files import (
    EVENTS,
    METRICS_FILE,
    NON_FINITE_FILE,
    RESULTS,
    SUMMARY_FILE,
    read_run,
    write_json,
)

Ending = Literal["finished", "as asked", "preempted"]
PACKAGES = ("torch", "petastorm", "pyarrow", "numpy")


def begin_run(context: TrainContext, location: str, given: list[str], last: Record | None) -> None:
    """Prepare the run's folder and write run.json. Raises DataError where that is not possible.

    A fresh start, without a `last` checkpoint, removes what an earlier run left there; otherwise whatever followed that
    checkpoint is set aside.
    """
    try:
        _begin_run(context, location, given, last)
    except OSError as error:
        raise DataError(f"the run's folder {context.run} cannot be written: {files.told(error)}") from error


def _begin_run(context: TrainContext, location: str, given: list[str], last: Record | None) -> None:
    context.run.mkdir(parents=True, exist_ok=True)
    if last is not None:
        aside = store.go_on_from(context.run, last)
        if aside:
            log(f"set aside as .rejected: {', '.join(aside)}")
        # They describe the end that the run had before it was resumed.
        for name in RESULTS:
            (context.run / name).unlink(missing_ok=True)
        non_finite.cut_back(context.run, last.step)
    else:
        removed = store.clear(context.run)
        if removed or (context.run / SUMMARY_FILE).exists():
            log(
                f"the run {context.run.name!r} starts afresh: its earlier checkpoints and results are removed"
            )
        for name in (*RESULTS, METRICS_FILE, NON_FINITE_FILE):
            (context.run / name).unlink(missing_ok=True)
        shutil.rmtree(context.run / EVENTS, ignore_errors=True)
    # A resumed training keeps what it began with.
    before = None if last is None else read_run(context.run)
    started_from = (before or {}).get("started_from") if context.start is None else context.start.as_json()
    launcher = context.communicator.backend.command()
    shown, where = command.without_credentials(given), storage.absolute(location)
    document = {
        "command": f"{launcher} training.train {shlex.join(shown)}",
        "repeat": f"{launcher} training.train {shlex.join(repeated(shown, context.run.name, where))}",
        "folder": str(Path.cwd()),
        "manifest": where,
        # So that a copy of the run, moved with its data, finds its own.
        "manifest_from_run": storage.refer(location, str(context.run)),
        "manifest_root": context.manifest.manifest_root,
        "resumed_from": None if last is None else last.chain,
        "started_from": started_from,
        "configuration_sha256": context.config.sha256(),
        # Keep credentials out, and a search, which the training knows nothing of.
        "configuration": context.config.model_dump(mode="json", exclude={"storage", "tune"}),
        "environment": environment(context),
    }
    write_json(context.run / RUN_FILE, json.loads(command.without_passwords(json.dumps(document))))


def repeated(given: list[str], run: str, location: str) -> list[str]:
    """Return the arguments of a training that does the same under another name, from its beginning to its end."""
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=True)
    flags.add_argument("--resume", nargs="?")
    flags.add_argument("--again", action="store_true")
    flags.add_argument("--new-data", action="store_true")
    for name in ("--run", "--stop-after", "--manifest", "--version"):
        flags.add_argument(name)
    others = flags.parse_known_args(given)[1]
    return [*others, "--manifest", location, "--run", f"{run}-repeated"]


def environment(context: TrainContext) -> dict[str, Any]:
    """Return versions, machine and world of a training."""
    backend = context.communicator.backend.name
    packages = [*PACKAGES, *(["horovod"] if backend == "horovod" else [])]
    return {
        "python": sys.version.split()[0],
        **{name: importlib.metadata.version(name) for name in packages},
        "host": platform.node(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "device": str(context.device),
        "threads": context.config.train.threads,
        "world_size": context.communicator.world.size,
        "backend": backend,
    }


def run_loop(
    context: TrainContext,
    state: TrainState,
    last: Record | None,
    stop_after: int | None,
    commit: OnCommit | None = None,
) -> Ending:
    """Train; return why the loop ended. Rank 0 writes the metrics, and checkpoints that follow `last` in the chain.

    All ranks call `commit` every `train.commit_every` steps, and whenever a checkpoint is saved.
    Raises CheckError on all ranks if the last checkpoint could not be written.
    """
    if context.communicator.writes:
        parameters = sum(p.numel() for p in context.model.parameters())
        settings = context.config.train
        log(
            f"training {parameters:,} parameters on {context.rows:,} rows × {settings.epochs} epochs "
            f"(class balance: {context.manifest.splits['train'].balance.policy}) in global batches of "
            f"{settings.batch}, {context.communicator.world.size} rank(s)"
            + (f", from step {state.step:,} on" if state.step else "")
        )
        for sentence in lopsided.of_manifest(context.manifest):
            log(f"note: {sentence}")
        order = order_of(context.manifest, context.config.method, settings)
        idle = order.idle_ranks(context.communicator.world)
        if idle:
            log(f"note: {idle} of the ranks have no rows, because the training split has so few row groups")
        with (
            Saver(context.run, settings.keep_checkpoints, last, log) as saver,
            Metrics(context.run, state.step) as metrics,
        ):
            loop = Loop(context, state, metrics, saver, commit)
            finished = loop.train(stop_after)
            written = saver.wait()
            state.seconds_held += saver.seconds_held
            state.failed_saves += saver.failures
    else:
        loop = Loop(context, state, None, None, commit)
        finished, written = loop.train(stop_after), True
    context.communicator.agree(
        None
        if written
        else CheckError(
            f"the last checkpoint of the run {context.run.name!r} could not be written: mend that, then give --resume"
        )
    )
    return "finished" if finished else "preempted" if loop.preempted else "as asked"


def finish(context: TrainContext, state: TrainState, location: str) -> None:
    """Compare the weights of all ranks and write the summary. Raises CheckError if they differ."""
    weights = tensors.weights_sha256(context.method.judged)
    if len(set(context.communicator.gather(weights))) > 1:
        raise CheckError("the ranks ended with different weights; please report it with the configuration")
    if not context.communicator.writes:
        return
    found = store.last_good(context.run, log)
    if found is None or not found[0].finished:
        raise CheckError(f"the last checkpoint in {context.run} is not that of the finished training")
    record = found[0]
    best = store.best_on_disk(context.run)
    by = None if best is None else best.judged_by
    training = {
        "backend": context.communicator.backend.name,
        "world_size": context.communicator.world.size,
        "epochs": context.config.train.epochs,
        "epochs_completed": record.epoch,
        "steps": record.step,
        "samples_seen": record.position,
        "seconds": round(state.seconds, 3),
        "samples_per_second": round(record.position / max(state.seconds, 1e-9), 1),
        "input_wait_share": round(state.seconds_waited / max(state.seconds, 1e-9), 6),
        "checkpoint": str(store.folder_of(context.run) / record.file),
        "checkpoint_sha256": record.sha256,
        "checkpoint_chain": record.chain,
        "best_checkpoint": str(store.folder_of(context.run) / (best or record).file),
        "best_checkpoint_sha256": (best or record).sha256,
        "best_step": (best or record).step,
        "best_validation": None if by is None else {by.name: by.value},
        "stopped_early": record.position < context.total_rows,
        "checkpoint_wait_share": round(state.seconds_held / max(state.seconds, 1e-9), 6),
        "checkpoints_failed": state.failed_saves,
        "batches_skipped": state.skipped,
        "precision": context.config.train.precision,
        "overflows": state.overflows,
        "weights_sha256": weights,
        **context.method.facts(),
    }
    dataset = summary.dataset_section(context.manifest, location)
    try:
        evaluation = summary.update(context.run, dataset=dataset, training=training).get("evaluation")
        if evaluation is not None and (outdated := summary.outdated(context.run, evaluation)) is not None:
            # It was made while the training went on.
            summary.update(context.run, evaluation={**evaluation, "outdated": outdated})
    except DataError as error:
        raise DataError(f"{error}; the training itself is finished, and --resume writes it then") from error
    skipped = f"; {counted(state.skipped, 'batch', 'batches')} skipped, whose loss or gradient was not finite"
    log(
        f"trained {record.step:,} steps in {state.seconds:.1f} s, {training['samples_per_second']:,} rows/s, "
        f"{100 * float(str(training['input_wait_share'])):.2f}% of it waiting for input"
        f"{skipped if state.skipped else ''}; summary: {context.run / SUMMARY_FILE}"
    )
