"""Checkpoints: written as a whole or not at all, with a SHA-256, and tied to the manifest that they were trained on.

`checkpoints/step-00000200.pt` holds tensors and plain values alone (it loads with `weights_only`), nothing of times
and hosts; `step-00000200.json` beside it, written afterwards, holds its hash and what a reader wants to know first.
A checkpoint is good when both are there and agree.
"""

import contextlib
import hashlib
import json
import os
import pickle
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from schemas.config import Configuration, canonical_json
from schemas.errors import DataError, UsageError

FORMAT_VERSION = 1
NAME = re.compile(r"step-(\d{8,})\.(?:pt|json)")
State = dict[str, Any]


class Record(BaseModel):
    """What stands in the JSON file beside a checkpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    sha256: str
    manifest_root: str
    configuration_sha256: str
    step: int
    epoch: int
    """Epochs completed."""
    position: int
    """Rows that all ranks together have taken since the start of the training."""
    finished: bool
    world_size: int
    seconds: float
    seconds_waited: float
    """For input, averaged over the ranks."""


def folder_of(run: Path) -> Path:
    return run / "checkpoints"


def decisive(config: Configuration) -> dict[str, Any]:
    """The settings that have to be the same for a training to go on where it stopped."""
    train = config.train.model_dump(
        mode="json",
        include={"epochs", "batch", "method", "seed", "streams", "window", "clip_norm", "class_weights"},
    )
    return {
        "model": config.model.model_dump(mode="json"),
        "optimizer": config.optimizer.model_dump(mode="json"),
        "train": train,
    }


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of the model's tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        array = tensor.detach().cpu().contiguous()
        digest.update(canonical_json([name, str(array.dtype), list(array.shape)]))
        digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save(run: Path, state: State, describe: Callable[[str, str], Record]) -> Record:
    """Writes a checkpoint: the file, then its record, each under another name first, synced and renamed.

    `describe(file, sha256)` makes the record.
    """
    folder = folder_of(run)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"step-{state['step']:08d}"
    attempt = folder / f".{name}.pt.part"
    with attempt.open("wb") as file:
        torch.save(_plain(state), file)
        file.flush()
        os.fsync(file.fileno())
    record = describe(f"{name}.pt", sha256_of(attempt))
    # An older record of this step must not stand beside the new file, should this end in between.
    (folder / f"{name}.json").unlink(missing_ok=True)
    attempt.replace(folder / record.file)
    sync_folder(folder)
    write_atomically(folder / f"{name}.json", record.model_dump_json(indent=1).encode() + b"\n")
    return record


def _plain(value: Any) -> Any:
    """The same value on the CPU, no object standing in it twice: so equal states give equal bytes.

    Pickle writes a second occurrence of an object as a reference, which would tell a resumed training's state, whose
    objects were made by loading, from an uninterrupted one's.
    """
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
        return tensor if whole else tensor.contiguous().clone()
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_plain(item) for item in value])
    return sys.intern(value) if isinstance(value, str) else value


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a local file as a whole or not at all, and survives a power failure afterwards."""
    attempt = path.with_name(f".{path.name}.part")
    with attempt.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    attempt.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the renames in a folder lasting."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prune(run: Path, keep: int) -> None:
    """Deletes all but the newest `keep` checkpoints, and what interrupted writes left."""
    folder = folder_of(run)
    steps = sorted({step for path in folder.iterdir() if (step := _step(path)) is not None})
    for path in folder.iterdir():
        if _step(path) in steps[:-keep] or path.name.endswith(".part"):
            path.unlink()


def clear(run: Path) -> int:
    """Deletes all checkpoints of a run; returns how many files that were."""
    folder = folder_of(run)
    found = [path for path in folder.glob("*") if _step(path) is not None or path.name.endswith(".part")]
    # Records first: a checkpoint without one is no good one, so none is taken up again if this ends in between.
    for path in sorted(found, key=lambda path: path.suffix != ".json"):
        path.unlink()
    return len(found)


def _step(path: Path) -> int | None:
    match = NAME.fullmatch(path.name)
    return int(match[1]) if match else None


def last_good(run: Path, say: Callable[[str], None]) -> tuple[Record, State] | None:
    """The newest checkpoint that is whole, and its content (on the CPU); None when there is none.

    A damaged or unfinished one is skipped, which `say` is told.
    """
    folder = folder_of(run)
    steps = {step for path in folder.glob("*") if (step := _step(path)) is not None}
    for step in sorted(steps, reverse=True):
        try:
            return read(folder / f"step-{step:08d}.json")
        except DataError as error:
            say(f"the checkpoint of step {step:,} is skipped: {error}")
    return None


def read(record_file: Path) -> tuple[Record, State]:
    """A checkpoint by its record. Raises DataError, naming the file, where it is missing or damaged."""
    try:
        record = Record.model_validate_json(record_file.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{record_file} is missing, so its writing was not finished") from error
    except (OSError, ValidationError) as error:
        raise DataError(
            f"{record_file} is no checkpoint's record ({str(error).splitlines()[0]}); delete it"
        ) from error
    file = record_file.with_name(record.file)
    try:
        if sha256_of(file) != record.sha256:
            raise DataError(f"{file} is damaged: its SHA-256 is not {record.sha256}")
        state: State = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise DataError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
    if state.get("format_version") != FORMAT_VERSION or state.get("manifest_root") != record.manifest_root:
        raise DataError(f"{file} does not belong to {record_file}")
    return record, state


def check_fits(record: Record, state: State, config: Configuration, root: str, run: Path) -> None:
    """Raises UsageError where a checkpoint cannot be gone on from with this manifest and configuration."""
    if record.manifest_root != root:
        raise UsageError(
            f"the run {run.name!r} was trained on the manifest with the root {record.manifest_root[:16]}…, not "
            f"{root[:16]}…: give its manifest with --manifest (run.json names it), or start another run with --run"
        )
    was, now = json.loads(state["decisive"]), decisive(config)
    for section in now:
        for key in sorted({*was.get(section, {}), *now[section]}):
            before, after = was.get(section, {}).get(key), now[section].get(key)
            if before != after:
                raise UsageError(
                    f"{section}.{key} was {before!r} in the run {run.name!r} and is now {after!r}: put it back, "
                    "or start another run with --run"
                )


def load_model(model: nn.Module, state: Mapping[str, Any], file: str) -> None:
    """Puts the weights of a checkpoint into a model. Raises DataError where they do not fit."""
    try:
        model.load_state_dict(state["model"])
    except (RuntimeError, KeyError) as error:
        raise DataError(
            f"the weights in {file} do not fit the model: {str(error).splitlines()[0]}"
        ) from error


def remove_quietly(path: Path) -> None:
    """Deletes a file that may not be there."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
