"""Verify the files of a run: `python -m training.verify RUN` (also `ringlake-train verify RUN`).

Recomputes every link of the checkpoint chain, hashes and opens every remaining checkpoint, and compares the last one
with the run's summary and with the manifest that the run was trained on.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from common import command, lock
from common.errors import DataError, UsageError
from common.progress import log
from common.storage import Storage
from provenance.chain import verified
from schemas.config import load
from schemas.manifest import load as load_manifest
from schemas.runs import CHAIN, RUN_FILE, check_dataset, manifest_of
from schemas.tables import Layout
from training.checkpoints import store
from training.checkpoints.record import Record, link_of, name_of
from training.tracking import summary
from training.tracking.run_files import LOCK_FILE, SUMMARY_FILE, read_run

ATTEMPTS = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status. Raises DataError naming the first fault."""
    parser = argparse.ArgumentParser(
        prog="python -m training.verify",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder, e.g. runs/demo")
    parser.add_argument(
        "--manifest", metavar="PATH", help="where the manifest lies now, if not where run.json says"
    )
    command.add_root_flag(parser)
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="the run's configuration, where it says where the data set lies now or has credentials in [storage]",
    )
    arguments = parser.parse_args(argv)
    began = read_run(arguments.run)
    if began is None:
        raise UsageError(f"{arguments.run} holds no run: {RUN_FILE} is missing")
    records, kept = check_run(arguments.run)
    if not records:
        log(f"{arguments.run}: no checkpoint has been written yet")
        return 0
    last = records[-1]
    config = None if arguments.config is None else load(arguments.config)
    options = Storage() if config is None else config.storage
    if config is not None:
        check_dataset(config, arguments.run)
    layout = None if config is None or arguments.root is not None else Layout.of(config)
    location = arguments.manifest or manifest_of(arguments.run, began, options, layout, arguments.root)
    manifest = load_manifest(location, options)
    moved_on = began["manifest_root"] == manifest.manifest_root and began["resumed_from"] == last.chain
    if manifest.manifest_root != last.manifest_root and moved_on:
        log(
            f"note: the run has moved on to the manifest root {manifest.manifest_root}, without a checkpoint yet"
        )
    elif manifest.manifest_root != last.manifest_root:
        raise DataError(
            f"{location} has the root {manifest.manifest_root}, the checkpoint of step {last.step:,} was trained on "
            f"{last.manifest_root}: give its manifest with --manifest"
        )
    log(
        f"{arguments.run}: {len(records):,} checkpoints chained up to step {last.step:,} (chain {last.chain}), "
        f"{kept:,} of them still there and unaltered; trained on the manifest root {last.manifest_root}"
    )
    return 0


def check_run(run: Path) -> tuple[list[Record], int]:
    """Return the records of all checkpoints, and the number of those that remain. Raises DataError naming the first
    fault.

    A training that goes on meanwhile adds checkpoints and deletes others: a fault that it may have made is looked for
    again.
    """
    trainer = lock.holder(run / LOCK_FILE)
    if trainer is not None:
        log(f"note: {run} is being trained ({lock.described(trainer)})")
    for attempts_left in reversed(range(ATTEMPTS)):
        records = check_chain(run)
        try:
            kept = check_files(run, records, trainer is not None)
            if records:
                check_summary(run, records)
            return records, kept
        except DataError:
            if not attempts_left or check_chain(run) == records:
                raise
    raise AssertionError("the last attempt returns or raises")


def check_chain(run: Path) -> list[Record]:
    """Return the records of all checkpoints. Raises DataError naming the first whose link does not hold."""
    return list(verified(store.read_chain(run), link_of, str(store.folder_of(run) / CHAIN)))


def check_files(run: Path, records: Sequence[Record], is_trained: bool = False) -> int:
    """Return the number of remaining checkpoints. Raises DataError naming a file that is damaged or not in the chain.

    The newest must exist; older ones are deleted as `train.keep_checkpoints` says, also while this goes on.
    """
    folder = store.folder_of(run)
    files = sorted(path for path in folder.glob("step-*") if store.CHECKPOINT_FILE.fullmatch(path.name))
    chained = {record.step: record for record in records}
    names = {f"{name_of(step)}{suffix}" for step in chained for suffix in (".pt", ".json")}
    newest = name_of(records[-1].step) if records else ""
    for path in files:
        if path.stem > newest:
            check_follows(path, records, is_trained)
            if not is_trained:
                log(f"note: {path} was not finished; --resume takes it if it is whole, or the one before")
        elif path.name not in names:
            raise DataError(f"{path} is not in the chain: it does not come from this run")
    # A record is deleted before its checkpoint.
    there = {path.stem for path in files if path.suffix == ".json" and path.stem <= newest}
    if records:
        there.add(newest)
    kept = 0
    for name in sorted(there):
        try:
            found = store.check(folder / f"{name}.json")
        except DataError:
            if is_trained and name != newest and not (folder / f"{name}.json").exists():
                continue  # it was deleted just now
            raise
        kept += 1
        if found != chained[found.step]:
            raise DataError(f"{folder / name}.json was altered: it is not what {CHAIN} says of it")
    return kept


def check_follows(file: Path, records: Sequence[Record], is_trained: bool) -> None:
    """Raise DataError if a file after the end of the chain shows that the chain lacks lines.

    A training that was killed leaves at most one checkpoint that its chain does not have.
    """
    if file.suffix != ".json":
        return
    try:
        record = Record.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return  # not finished, or set aside just now
    last = records[-1].chain if records else None
    if record.previous == last and (records or is_trained):
        return
    chain = store.folder_of(file.parents[1]) / CHAIN
    state = "lacks lines at its end" if records else "is missing or empty"
    raise DataError(
        f"{chain} {state}: {file.name} is not in it; put it back from a copy (--resume goes on without it, but the "
        "checkpoints can no longer be verified back to the first)"
    )


def check_summary(run: Path, records: Sequence[Record]) -> None:
    """Raise DataError if summary.json describes a training or an evaluation of checkpoints that are not `records`."""
    document, last = summary.read(run), records[-1]
    told, evaluated = document.get("training", {}), document.get("evaluation", {})
    if told and (told["checkpoint_sha256"], told["checkpoint_chain"]) != (last.sha256, last.chain):
        raise DataError(
            f"{run / SUMMARY_FILE} tells of the checkpoint {told['checkpoint_sha256']}, the chain ends with "
            f"{last.sha256} of step {last.step:,}"
        )
    best = store.folder_of(run) / Path(told.get("best_checkpoint", last.file)).name
    if not best.exists():
        raise DataError(f"{best}, the best checkpoint, is missing; put it back from a copy")
    if evaluated and evaluated["checkpoint_sha256"] not in {record.sha256 for record in records}:
        raise DataError(
            f"{run / SUMMARY_FILE} has the evaluation of {evaluated['checkpoint']} with the SHA-256 "
            f"{evaluated['checkpoint_sha256']}, which is not in the chain: evaluate again"
        )


if __name__ == "__main__":
    sys.exit(command.run(main))
