"""Checkpoints: written atomically, hashed, chained to one another and to the manifest.

`checkpoints/step-00000200.pt` holds only tensors and plain values (it loads with `weights_only`), and no times or
hosts, so two identical runs give identical files. `step-00000200.json` beside it, written afterwards, holds its hashes
and the facts that readers want first. A checkpoint is good when both files exist and agree. `checkpoints/chain.jsonl`
keeps the records of all checkpoints, including deleted ones.
"""

import contextlib
import errno
import hashlib
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from common import files, json_lines
from common.errors import DataError, UsageError
from common.progress import log
from provenance.chain import verified
from provenance.checksums import sha256_of
from schemas.config import Configuration, with_later_keys
from schemas.runs import CHAIN, CHECKPOINTS
from schemas.settings import Augment
from training.checkpoints.record import CheckpointState, Record, best_of, link_of, name_of, ranked

FORMAT_VERSION = 3
OF_ALL_DATA = frozenset({"kind", "freeze", "head_learning_rate"})
"""Keys of `[optimizer]` and `[train]` that stay when the data change: the optimizer's state fits no other parameters.
A learning rate of the heads may have another value."""
CHECKPOINT_FILE = re.compile(r"step-(\d{8,})\.(?:pt|json)")


def folder_of(run: Path) -> Path:
    return run / CHECKPOINTS


def has_any(run: Path) -> bool:
    """Return True if there are checkpoints, good or not; one whose record was never written is none."""
    return bool(steps_of(run, ".json") or json_lines.lines(_chain(run)))


def steps_of(run: Path, ending: str = "") -> list[int]:
    """Return the steps that have files (with that ending), in ascending order."""
    files = folder_of(run).glob(f"*{ending}")
    return sorted({step for path in files if (step := _step(path)) is not None})


def _records_first(files: Iterable[Path]) -> list[Path]:
    """Sort files for deletion, records first: a checkpoint without a record is not good after an interruption."""
    return sorted(files, key=lambda path: path.suffix != ".json")


def decisive(config: Configuration) -> dict[str, Any]:
    """Return the settings that must be unchanged for a training to resume."""
    train = config.train.model_dump(
        mode="json",
        include={
            "epochs",
            "batch",
            "patience",
            "seed",
            "streams",
            "window",
            "clip_norm",
            "gradient_compression",
            "reduction",
            "precision",
            "accumulate",
            "ema_decay",
            "freeze",
        },
    )
    kinds = {name: getattr(config, name) for name in ("objective", "model", "method", "optimizer")}
    found = {**{name: settings.model_dump(mode="json") for name, settings in kinds.items()}, "train": train}
    # Without any change it says nothing, as in the checkpoints of versions that did not know it.
    return found | ({"augment": config.augment.model_dump(mode="json")} if config.augment.changes else {})


def save(run: Path, state: CheckpointState, previous: str | None, facts: Mapping[str, Any]) -> Record:
    """Write a checkpoint: the file, then its record, each under a temporary name, synced and renamed.

    `state` comes from `tensors.copied`; `previous` and `facts` are those of `Record.of`. Raises OSError; the earlier
    files then still exist.
    """
    import torch

    file = folder_of(run) / f"{name_of(state['step'])}.pt"
    try:
        with files.replacing(file) as attempt:
            torch.save(state, attempt)
            attempt.flush()
            os.fsync(attempt.fileno())
            attempt.seek(0)
            sha256 = hashlib.file_digest(attempt, "sha256").hexdigest()
            # An older record of this step must not lie beside the new file if this is interrupted here.
            file.with_suffix(".json").unlink(missing_ok=True)
    except RuntimeError as error:
        # torch's writer raises this when the disk is full, in place of the error that the file raised.
        cause = error.__context__ if isinstance(error.__context__, OSError) else None
        number = errno.ENOSPC if cause is None else cause.errno
        raise OSError(
            number, f"{os.strerror(number or 0)} ({str(error).splitlines()[0]})", str(file)
        ) from error
    record = Record.of(state, sha256, previous, facts)
    files.write(file.with_suffix(".json"), record.model_dump_json(indent=1).encode() + b"\n")
    try:
        json_lines.append(_chain(run), record.model_dump_json().encode())
    except OSError:
        for path in (file.with_suffix(".json"), file):
            path.unlink(missing_ok=True)
        raise
    return record


def read_chain(run: Path) -> list[Record]:
    """Return the records of all checkpoints so far. Raises DataError naming the first invalid line.

    A last line cut off by an interruption is left out.
    """
    return list(json_lines.read(_chain(run), Record.model_validate_json))


def _chain(run: Path) -> str:
    return str(folder_of(run) / CHAIN)


def go_on_from(run: Path, record: Record) -> list[str]:
    """Make a checkpoint the last of the chain; return the files of later ones, which are renamed to `.rejected`.

    The later ones are damaged, or belong to an abandoned course of the training.
    """
    folder = folder_of(run)
    later = [path for path in folder.iterdir() if (step := _step(path)) is not None and step > record.step]
    for path in _records_first(later):
        path.replace(path.with_name(f"{path.name}.rejected"))
    kept = _lines_before(run, record)
    json_lines.write(_chain(run), [*kept, record.model_dump_json().encode()])
    try:
        list(verified(read_chain(run), link_of, _chain(run)))
    except DataError as error:
        missing = "" if kept else f"{_chain(run)} is missing or empty, though checkpoints came before: "
        log(
            f"warning: {missing}{error}; the training goes on, but its checkpoints can no longer be verified back to "
            "the first: to mend that, stop it, put a copy of the file back, and resume again"
        )
    return sorted(path.name for path in later)


def _lines_before(run: Path, record: Record) -> list[bytes]:
    """Return the lines of the chain before that of a checkpoint, damaged ones included, so that `verify` names them."""
    kept: list[bytes] = []
    if record.previous is None:
        return kept
    whole = 0
    for line in json_lines.lines(_chain(run)):
        try:
            found = Record.model_validate_json(line)
        except ValidationError:
            kept.append(line)
            continue
        if found.step >= record.step:
            break
        kept.append(line)
        if found.chain == record.previous:
            whole = len(kept)  # what follows is the damaged line of the checkpoint itself, or of later ones
    return kept[:whole] if whole else kept


def prune(run: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints and the best one; the chain stays."""
    folder = folder_of(run)
    steps = steps_of(run)
    best = best_on_disk(run)
    kept = {*steps[-keep:], *(() if best is None else (best.step,))}
    for path in _records_first(folder.iterdir()):
        step = _step(path)
        if (step is not None and step not in kept) or path.name.endswith(".part"):
            path.unlink()


def best_on_disk(run: Path) -> Record | None:
    """Return the best record whose files exist: `go_on_from` may leave the best of the chain without any."""
    return best_of(_on_disk(run))


def last_on_disk(run: Path) -> Record | None:
    """Return the record of the last checkpoint whose files exist."""
    return next(iter(_on_disk(run)[::-1]), None)


def _on_disk(run: Path) -> list[Record]:
    """Return the records that lie beside checkpoints, in ascending order; unreadable ones are no good checkpoint's."""
    found = []
    for step in steps_of(run, ".pt"):
        with contextlib.suppress(OSError, ValidationError):
            found.append(Record.model_validate_json((folder_of(run) / f"{name_of(step)}.json").read_bytes()))
    return found


def clear(run: Path) -> int:
    """Delete all checkpoints of a run; return the number of files deleted."""
    folder = folder_of(run)
    found = [
        path
        for path in folder.glob("*")
        if _step(path) is not None or path.name == CHAIN or path.suffix in (".part", ".rejected")
    ]
    for path in _records_first(found):
        path.unlink()
    return len(found)


def _step(path: Path) -> int | None:
    match = CHECKPOINT_FILE.fullmatch(path.name)
    return int(match[1]) if match else None


def last_good(
    run: Path, log: Callable[[str], None], at_most: int | None = None
) -> tuple[Record, CheckpointState] | None:
    """Return the newest good checkpoint and its content (on the CPU); None if there is none.

    Checkpoints after the step `at_most` do not count. A damaged or unfinished one is skipped and logged.
    """
    for step in reversed(steps_of(run)):
        if (at_most is None or step <= at_most) and (found := _good(run, step, log)) is not None:
            return found
    return None


def _good(run: Path, step: int, log: Callable[[str], None]) -> tuple[Record, CheckpointState] | None:
    try:
        return read(folder_of(run) / f"{name_of(step)}.json")
    except DataError as error:
        log(f"the checkpoint of step {step:,} is skipped: {error}")
        return None


def best_good(run: Path, log: Callable[[str], None]) -> tuple[Record, CheckpointState] | None:
    """Return the best good checkpoint, or the last good one if none that exists was validated.

    The choice and its reason are logged, as is a damaged one that is better.
    """
    validated = ranked(_on_disk(run))
    for record in validated:
        if (found := _good(run, record.step, log)) is not None:
            by = record.judged_by
            assert by is not None  # `ranked`
            log(
                f"takes the checkpoint of step {record.step:,}, the best by validation {by.name} {by.value:.4f}"
            )
            return found
    last = last_good(run, log)
    if last is not None:
        why = "none that was validated is good" if validated else "none was validated"
        log(f"takes the last checkpoint, of step {last[0].step:,}, as {why}")
    return last


def read(record_file: Path) -> tuple[Record, CheckpointState]:
    """Load a checkpoint by its record. Raises DataError, naming the file, if it is missing or damaged."""
    import torch  # not needed to verify a run

    record, file = _hashed(record_file)
    try:
        state: CheckpointState = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise DataError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
    _check_belongs(record, file, state)
    return record, state


def check(record_file: Path) -> Record:
    """Check a checkpoint as `read` does, without loading a tensor or torch."""
    record, file = _hashed(record_file)
    try:
        with zipfile.ZipFile(file) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            values = _PlainValues(archive.open(name)).load()
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise DataError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
    _check_belongs(record, file, values if isinstance(values, dict) else {})
    return record


class _PlainValues(pickle.Unpickler):
    """Unpickler of a checkpoint's plain values; tensors and all other objects become nothing."""

    def find_class(self, module: str, name: str) -> Any:
        return _Nothing

    def persistent_load(self, pid: Any) -> Any:
        return None


class _Nothing:
    """Stand-in for every object that is not a plain value: no code named in a file is imported or run."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


def _hashed(record_file: Path) -> tuple[Record, Path]:
    """Return the record and the file of a checkpoint after checking its hashes."""
    try:
        record = Record.model_validate_json(record_file.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{record_file} is missing, so its writing was not finished") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{record_file} is no checkpoint's record: {str(error).splitlines()[0]}") from error
    if record.file != f"{name_of(record.step)}.pt":
        raise DataError(f"{record_file} was altered: it names the file {record.file!r}")
    file = record_file.with_name(record.file)
    if record.link() != record.chain:
        raise DataError(f"{record_file} was altered: its values do not have the hash {record.chain}")
    if sha256_of(str(file), remedy="put it back from a copy")[0] != record.sha256:
        raise DataError(f"{file} is damaged: its SHA-256 is not {record.sha256}")
    return record, file


def _check_belongs(record: Record, file: Path, state: Mapping[str, Any]) -> None:
    version = state.get("format_version")
    if version in range(1, FORMAT_VERSION):
        raise DataError(
            f"{file} has the format {version}, this version of ringlake reads the format {FORMAT_VERSION}: train again"
        )
    same = ("manifest_root", "step", "position")
    if version != FORMAT_VERSION or any(state.get(key) != getattr(record, key) for key in same):
        raise DataError(f"{file} does not belong to {file.with_suffix('.json')}")


def check_fits(
    record: Record,
    state: CheckpointState,
    config: Configuration,
    root: str,
    run: Path,
    new_data: bool = False,
) -> None:
    """Raise UsageError if a training cannot resume from a checkpoint with this manifest and configuration."""
    if record.manifest_root != root and not new_data:
        raise UsageError(
            f"the run {run.name!r} was trained on the manifest with the root {record.manifest_root[:16]}…, not "
            f"{root[:16]}…: give its manifest with --manifest (run.json names it), start another run with --run, "
            "or learn on from these weights on the other data with --new-data"
        )
    was, now = json.loads(state["decisive"]), decisive(config)
    if "augment" in {**was, **now}:
        without = Augment().model_dump(mode="json")
        was, now = ({"augment": without, **each} for each in (was, now))
    was = {name: with_later_keys(name, section, now.get(name, {})) for name, section in was.items()}
    other_data = record.manifest_root != root
    for section in {**now, **was}:
        keys = {*was.get(section, {}), *now.get(section, {})}
        if other_data and section in ("optimizer", "train"):
            keys &= OF_ALL_DATA
        # Another kind has other keys, of which none says what changed.
        for key in sorted(keys, key=lambda one: (one != "kind", one)):
            before, after = was.get(section, {}).get(key), now.get(section, {}).get(key)
            both_given = other_data and key == "head_learning_rate" and None not in (before, after)
            if before != after and not both_given:
                raise UsageError(
                    f"{section}.{key} was {before!r} in the run {run.name!r} and is now {after!r}: put it back, "
                    "or start another run with --run"
                )
