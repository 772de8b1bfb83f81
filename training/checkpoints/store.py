"""Checkpoints: written as a whole or not at all, hashed, chained to one another and to the manifest.

`checkpoints/step-00000200.pt` holds tensors and plain values alone (it loads with `weights_only`), nothing of times
and hosts, so two identical runs give identical files; `step-00000200.json` beside it, written afterwards, holds its
hashes and what a reader wants to know first. A checkpoint is good when both are there and agree.
`checkpoints/chain.jsonl` keeps the records of all checkpoints, also of those that were deleted since.
"""

import contextlib
import hashlib
import json
import math
import os
import pickle
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from common.errors import DataError, UsageError
from schemas.config import Configuration, canonical_json
from schemas.runs import CHAIN, CHECKPOINTS

FORMAT_VERSION = 2
NAME = re.compile(r"step-(\d{8,})\.(?:pt|json)")
LINKED = ("epoch", "finished", "manifest_root", "position", "previous", "sha256", "step", "validation_loss")
"""Whatever two equal trainings have in common; neither paths nor times."""
State = dict[str, Any]


class Record(BaseModel):
    """What stands in the JSON file beside a checkpoint, and as a line in the chain."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    sha256: str
    """Of the file, all of whose bytes are contents: equal states have equal hashes, whatever was saved before."""
    previous: str | None
    """`chain` of the checkpoint before."""
    chain: str
    """What `link` gives."""
    manifest_root: str
    configuration_sha256: str
    step: int
    epoch: int
    """Epochs completed."""
    position: int
    """Rows that all ranks together have taken since the start of the training (on these data)."""
    finished: bool
    world_size: int
    validation_loss: float | None
    """Where a validation came just before."""
    seconds: float
    seconds_waited: float
    """For input, averaged over the ranks."""

    @classmethod
    def of(cls, state: State, sha256: str, previous: str | None, facts: Mapping[str, Any]) -> Self:
        """The record of a state whose file has that hash; `facts` are the fields that do not follow from it.

        A validation loss that is not finite counts as none: no such checkpoint is the best.
        """
        loss = facts["validation_loss"]
        unlinked = cls(
            file=f"{name_of(state['step'])}.pt",
            sha256=sha256,
            previous=previous,
            chain="",
            manifest_root=state["manifest_root"],
            step=state["step"],
            position=state["position"],
            **{**facts, "validation_loss": loss if loss is not None and math.isfinite(loss) else None},
        )
        return unlinked.model_copy(update={"chain": unlinked.link()})

    def link(self) -> str:
        """The hash that this checkpoint adds to the chain: SHA-256 over the canonical JSON of the fields in LINKED.

        It can still be checked when the checkpoint itself is deleted.
        """
        return hashlib.sha256(canonical_json(self.model_dump(mode="json", include=set(LINKED)))).hexdigest()


def name_of(step: int) -> str:
    return f"step-{step:08d}"


def folder_of(run: Path) -> Path:
    return run / CHECKPOINTS


def has_any(run: Path) -> bool:
    """Whether there are files of checkpoints, good or not."""
    return bool(steps_of(run))


def steps_of(run: Path, ending: str = "") -> list[int]:
    """The steps of which there are files (with that ending), ascending."""
    files = folder_of(run).glob(f"*{ending}")
    return sorted({step for path in files if (step := _step(path)) is not None})


def _records_first(files: Iterable[Path]) -> list[Path]:
    """The order in which files go: a checkpoint without a record is no good one, should this end in between."""
    return sorted(files, key=lambda path: path.suffix != ".json")


def decisive(config: Configuration) -> dict[str, Any]:
    """The settings that have to be the same for a training to go on where it stopped."""
    train = config.train.model_dump(
        mode="json",
        include={
            "epochs",
            "batch",
            "method",
            "seed",
            "streams",
            "window",
            "clip_norm",
            "gradient_compression",
        },
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


def copied(value: Any) -> Any:
    """The same value in fresh memory on the CPU, no object standing in it twice: so equal states give equal bytes.

    Pickle writes a second occurrence of an object as a reference, which would tell a resumed training's state, whose
    objects were made by loading, from an uninterrupted one's.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    if isinstance(value, dict):
        return {copied(key): copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([copied(item) for item in value])
    return sys.intern(value) if isinstance(value, str) else value


def save(run: Path, state: State, previous: str | None, facts: Mapping[str, Any]) -> Record:
    """Writes a checkpoint: the file, then its record, each under another name first, synced and renamed.

    `state` is taken as `copied` made it; `previous` and `facts` are those of `Record.of`. Raises OSError; what was
    there before is then still there.
    """
    folder = folder_of(run)
    folder.mkdir(parents=True, exist_ok=True)
    name = name_of(state["step"])
    attempt = folder / f".{name}.pt.part"
    try:
        with attempt.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        record = Record.of(state, sha256_of(attempt), previous, facts)
        # An older record of this step must not stand beside the new file, should this end in between.
        (folder / f"{name}.json").unlink(missing_ok=True)
        attempt.replace(folder / record.file)
        sync_folder(folder)
        write_atomically(folder / f"{name}.json", record.model_dump_json(indent=1).encode() + b"\n")
    except RuntimeError as error:
        # torch's writer says so when the disk is full, instead of raising what the file raised.
        attempt.unlink(missing_ok=True)
        raise OSError(f"{attempt} cannot be written: {str(error).splitlines()[0]}") from error
    except OSError:
        attempt.unlink(missing_ok=True)
        raise
    try:
        _write_chain(run, [*_readable_chain(run), record])
    except OSError:
        for path in (folder / f"{name}.json", folder / record.file):
            path.unlink(missing_ok=True)
        raise
    return record


def _write_chain(run: Path, records: list[Record]) -> None:
    write_atomically(folder_of(run) / CHAIN, "".join(r.model_dump_json() + "\n" for r in records).encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a local file as a whole or not at all, and survives a power failure afterwards."""
    attempt = path.with_name(f".{path.name}.part")
    try:
        with attempt.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        attempt.replace(path)
    except OSError:
        attempt.unlink(missing_ok=True)
        raise
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


def read_chain(run: Path) -> list[Record]:
    """The records of all checkpoints so far. Raises DataError naming the line that is none.

    A last line that an interruption cut off is left out.
    """
    records, damage = _parsed_chain(run)
    if damage is not None:
        raise DataError(damage)
    return records


def _parsed_chain(run: Path) -> tuple[list[Record], str | None]:
    """The records up to the first line that is none, and what is wrong with that."""
    path = folder_of(run) / CHAIN
    if not path.exists():
        return [], None
    records: list[Record] = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            records.append(Record.model_validate_json(line))
        except ValidationError as error:
            return records, f"{path}, line {number}: {str(error).splitlines()[0]}"
    return records, None


def go_on_from(run: Path, record: Record) -> list[str]:
    """Makes a checkpoint the last of the chain; returns the files of later ones, which are set aside as `.rejected`.

    They are damaged, or belong to a course of the training that is left.
    """
    folder = folder_of(run)
    later = [path for path in folder.iterdir() if (step := _step(path)) is not None and step > record.step]
    for path in _records_first(later):
        path.replace(path.with_name(f"{path.name}.rejected"))
    _write_chain(run, [*(r for r in _readable_chain(run) if r.step < record.step), record])
    return sorted(path.name for path in later)


def _readable_chain(run: Path) -> list[Record]:
    return _parsed_chain(run)[0]  # `verify` names the damage


def prune(run: Path, keep: int) -> None:
    """Deletes all but the newest `keep` checkpoints and the one with the lowest validation loss; the chain stays."""
    folder = folder_of(run)
    steps = steps_of(run)
    best = best_of(_readable_chain(run))
    kept = {*steps[-keep:], *(() if best is None else (best.step,))}
    for path in _records_first(folder.iterdir()):
        step = _step(path)
        if (step is not None and step not in kept) or path.name.endswith(".part"):
            path.unlink()


def best_of(records: list[Record]) -> Record | None:
    """The one with the lowest validation loss, the first of equals; None where none was validated.

    Only those on the newest data count: losses on others cannot be compared.
    """
    root = records[-1].manifest_root if records else None
    validated = [r for r in records if r.validation_loss is not None and r.manifest_root == root]
    return min(validated, key=lambda record: record.validation_loss or 0.0, default=None)


def clear(run: Path) -> int:
    """Deletes all checkpoints of a run; returns how many files that were."""
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
    match = NAME.fullmatch(path.name)
    return int(match[1]) if match else None


def last_good(
    run: Path, say: Callable[[str], None], at_most: int | None = None
) -> tuple[Record, State] | None:
    """The newest checkpoint that is whole, and its content (on the CPU); None when there is none.

    Those after the step `at_most` do not count. A damaged or unfinished one is skipped, which `say` is told.
    """
    for step in reversed(steps_of(run)):
        if at_most is not None and step > at_most:
            continue
        try:
            return read(folder_of(run) / f"{name_of(step)}.json")
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
    if record.file != f"{name_of(record.step)}.pt":
        raise DataError(f"{record_file} was altered: it names the file {record.file!r}")
    file = record_file.with_name(record.file)
    if record.link() != record.chain:
        raise DataError(f"{record_file} was altered: its values do not have the hash {record.chain}")
    try:
        if sha256_of(file) != record.sha256:
            raise DataError(f"{file} is damaged: its SHA-256 is not {record.sha256}")
        state: State = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise DataError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
    same = ("manifest_root", "step", "position")
    if state.get("format_version") != FORMAT_VERSION or any(
        state.get(key) != getattr(record, key) for key in same
    ):
        raise DataError(f"{file} does not belong to {record_file}")
    return record, state


def check_fits(
    record: Record, state: State, config: Configuration, root: str, run: Path, new_data: bool = False
) -> None:
    """Raises UsageError where a checkpoint cannot be gone on from with this manifest and configuration."""
    if record.manifest_root != root and not new_data:
        raise UsageError(
            f"the run {run.name!r} was trained on the manifest with the root {record.manifest_root[:16]}…, not "
            f"{root[:16]}…: give its manifest with --manifest (run.json names it), start another run with --run, "
            "or learn on from these weights on the other data with --new-data"
        )
    was, now = json.loads(state["decisive"]), decisive(config)
    sections = ("model",) if record.manifest_root != root else tuple(now)
    for section in sections:
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
