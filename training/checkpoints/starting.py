"""Start of a training from given weights: `model.start`, of another run or of a file of safetensors.

Heads are the tensors whose names begin with `HEADS` in the module of a model, its body all others; a model without it
is all body. Of a run of another kind of model, the tensors below `BODY` count alone. The optimizer begins anew.
"""

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common import kinds, storage
from common.errors import DataError, UsageError
from common.progress import log
from common.storage import Storage
from common.wording import extra
from schemas.config import Configuration
from schemas.manifest import Manifest
from schemas.models import Start as Settings
from schemas.runs import roots_of
from training.checkpoints import store

Columns = list[dict[str, Any]]
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""Types of numbers that weights are taken from; quantised ones need their scales."""


@dataclass(frozen=True)
class Weights:
    """Tensors that a training can start from."""

    sha256: str
    """Hash of the file that they were read from."""
    tensors: Mapping[str, Tensor]
    names: Mapping[str, str]
    """Names of tensors here = there; a `*` stands for the same in both."""
    prefix: str
    """Beginning of the names here that they can be for."""
    origin: Mapping[str, Any]
    """Where they come from, for run.json."""
    run: Path | None = None


@dataclass(frozen=True)
class Start:
    """First weights of a training, and the tensors that it takes."""

    weights: Weights
    taken: tuple[str, ...]
    """Names of the tensors of this model that begin with the others' values."""
    left: tuple[str, ...]
    """Names of those of the same part that do not, because there is none of that name and shape."""
    overlap: Mapping[str, Any] = field(default_factory=dict)
    """Records to judge by that the other run has learned from: see `overlap.overlap`."""

    def as_json(self) -> dict[str, Any]:
        """Return the section `started_from` of run.json."""
        return {
            **self.weights.origin,
            "sha256": self.weights.sha256,
            "taken": list(self.taken),
            "left": list(self.left),
            "overlap": dict(self.overlap),
        }


def find(config: Configuration, manifest: Manifest) -> Weights | None:
    """Return the weights of `model.start`; None where no start is configured.

    Raises UsageError where there are none, they are not those that were meant, or their inputs have another meaning.
    """
    start = config.model.first_weights()
    if start is None:
        return None
    ours = [column.model_dump(mode="json") for column in manifest.content.columns]
    if start.run is not None:
        return _of_run(Path(start.run), start, config, ours)
    return _of_file(start, ours, config.storage)


def _of_run(run: Path, start: Settings, config: Configuration, ours: Columns) -> Weights:
    """Return the best checkpoint of a run."""
    found = store.best_good(run, log)
    if found is None and store.has_any(run):
        raise UsageError(
            f"model.start: no checkpoint of the run {run} is good, see above: put one back from a copy, or train it "
            "again"
        )
    if found is None:
        raise UsageError(
            f"model.start: the run {run} has no checkpoint in {store.folder_of(run)}: give the folder of a run, such "
            "as runs/demo, or train it first"
        )
    record, state = found
    if record.sha256 not in {one.sha256 for one in store.read_chain(run)}:
        raise UsageError(
            f"model.start: the chain of the run {run} does not have its checkpoint {record.file}: put its chain.jsonl "
            "back from a copy, or train it again"
        )
    theirs, decisive = json.loads(state["columns"]), json.loads(state["decisive"])
    other = decisive["model"]
    kind = config.model.kind
    alike = other["kind"] == kind
    inputs = _inputs(ours, config.objective.model_dump()), _inputs(theirs, decisive["objective"])
    _check_meaning(run, *inputs, alike)
    if start.part == "all" and _artifacts(ours, "label") != _artifacts(theirs, "label"):
        raise UsageError(
            f'model.start: part = "all" takes the heads of the run {run}, but its classes are not those of this data '
            'set: leave part at "body"'
        )
    # No shape tells the heads of attention, without which its weights mean something else.
    heads, of_this = _attention_heads(other), _attention_heads(config.model.model_dump())
    if heads != of_this:
        raise UsageError(
            f"model.start: the run {run} has model.heads = {heads}, this model {of_this}: give it the same"
        )
    prefix, of_other = ("", "") if alike else (_constant(kind, "BODY"), _constant(other["kind"], "BODY"))
    origin = {
        "run": str(run),
        "checkpoint": record.file,
        "chain": record.chain,
        # So that erasure names this run too.
        "manifest_roots": sorted(roots_of(run)),
    }
    names = start.names or {f"{prefix}*": f"{of_other}*"}
    return Weights(record.sha256, state["model"], names, prefix, origin, run)


def _of_file(start: Settings, ours: Columns, options: Storage) -> Weights:
    """Return the tensors of a file of safetensors, whose hash is that of the settings."""
    assert start.file is not None
    used = _artifacts(ours, "feature", "tokenizer")
    if start.tokenizer is not None:
        found = hashlib.sha256(storage.read_bytes(start.tokenizer, options)).hexdigest()
        if not used or set(used) != {found}:
            raise UsageError(
                f"model.start: the token ids of {start.file} are those of the tokenizer {found[:16]}…, those of this "
                f"data set of {_shown(used)}: they would mean other words. Publish it with feature.tokenizer = "
                f'"{start.tokenizer}"'
            )
    elif used:
        raise UsageError(
            f"model.start: {start.file} does not say what its token ids mean: give tokenizer = the tokenizer.json that "
            "belongs to it"
        )
    origin = {"file": storage.absolute(start.file), "tokenizer_sha256": next(iter(used), None)}
    tensors = read_safetensors(start.file, start.sha256, options)
    return Weights(start.sha256 or "", tensors, start.names, "", origin | {"manifest_roots": []})


def read_safetensors(location: str, sha256: str | None, options: Storage) -> dict[str, Tensor]:
    """Return the tensors of a file by name, from the same bytes that were hashed.

    Raises UsageError if its SHA-256 is not the given one or the package safetensors is missing, DataError for an
    unreadable file.
    """
    if importlib.util.find_spec("safetensors") is None:
        raise UsageError(f"{location} needs the package safetensors: {extra('pretrained')}")
    import safetensors
    import safetensors.torch

    index = f"{location}.index.json"
    if not storage.exists(location, options) and storage.exists(index, options):
        raise UsageError(
            f"{location} is missing, and {index} says that its tensors lie in several files: write them to one"
        )
    content = storage.read_bytes(location, options)
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise UsageError(
            f"{location} is not the file that was meant: its SHA-256 is {found}, not {sha256}; fetch it again, or give "
            "that hash if it is the right one"
        )
    try:
        return dict(safetensors.torch.load(content))
    except safetensors.SafetensorError as error:
        raise DataError(f"{location} is no file of safetensors: {error}") from error


def _check_meaning(run: Path, ours: Columns, theirs: Columns, alike: bool) -> None:
    """Raise UsageError where the inputs of the two models mean different things, though their shapes may be equal.

    Models of one kind have parts for several features, of another kind for the first alone.
    """
    mine, others = (_artifacts(columns, "feature", "tokenizer") for columns in (ours, theirs))
    compared = 1 if not alike else min(len(mine), len(others))
    if bool(mine) != bool(others) or mine[:compared] != others[:compared]:
        raise UsageError(
            f"model.start: the token ids of the run {run} are those of the tokenizer {_shown(others)}, those of this "
            f"data set of {_shown(mine)}: they would mean other words. Publish it with feature.tokenizer = the file "
            f"artifacts/{(others or ['…'])[0]} of that run's data set"
        )
    # The first layer of a table's model knows a column by its place alone, and a category by its code.
    now, then = (
        [(c["name"], c["shape"], c["artifacts"].get("categories")) for c in columns if _is_scalar(c)]
        for columns in (ours, theirs)
    )
    if now != then:
        apart = sorted({name for name, *_ in now} ^ {name for name, *_ in then}) or [name for name, *_ in now]
        raise UsageError(
            f"model.start: the columns of the run {run} are not those of this data set, in their order and with the "
            f"same categories: {', '.join(apart)} differ"
        )


def _attention_heads(model: Mapping[str, Any]) -> int | None:
    found: int | None = {**model, **(model.get("architecture") or {})}.get("heads")
    return found


def _inputs(columns: Columns, objective: Mapping[str, Any]) -> Columns:
    """Return the columns without the one that the objective predicts."""
    return [column for column in columns if column["name"] != objective.get("target")]


def _is_scalar(column: dict[str, Any]) -> bool:
    return (
        column["role"] == "feature" and len(column["shape"]) == 1 and "tokenizer" not in column["artifacts"]
    )


def _artifacts(columns: Columns, role: str, purpose: str = "classes") -> list[str]:
    """Return the SHA-256 of the artifact of that purpose of each column of a role that has one."""
    found = [column["artifacts"] for column in columns if column["role"] == role]
    return [artifacts[purpose] for artifacts in found if purpose in artifacts]


def _shown(tokenizers: list[str]) -> str:
    return f"{tokenizers[0][:16]}…" if tokenizers else "none"


def take(model: nn.Module, config: Configuration, weights: Weights) -> Start:
    """Give the part of a model that `model.start` names the given weights, by name and shape; return what was taken.

    Raises UsageError where nothing fits, a name of the settings is in vain, or `complete` is not met, DataError for
    values that are no weights.
    """
    settings = config.model.first_weights()
    assert settings is not None
    shown = weights.origin.get("run") or weights.origin["file"]
    heads = _constant(config.model.kind, "HEADS")
    own = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name.startswith(weights.prefix)
        and (settings.part == "all" or not heads or not name.startswith(heads))
    }
    theirs = {name: _renamed(name, weights.names) for name in own}
    for ours, there in settings.names.items():
        fitting = [name for name in own if _rest(name, ours) is not None]
        if fitting and all(_entry(name, settings.names) != ours for name in fitting):
            raise UsageError(
                f"model.start.names: entries before {ours!r} name all that it does: leave it out, or put it first"
            )
        if not any(theirs[name] in weights.tensors for name in fitting):
            raise UsageError(
                f"{'model.prefix' if config.model.start is None else 'model.start.names'}: {ours!r} = {there!r} names "
                "no tensor of "
                + (
                    f"{shown}, which has {_some(weights.tensors)}"
                    if fitting
                    else f"this model, which has {_some(own)}"
                )
            )
    taken = {}
    for name, tensor in own.items():
        given = weights.tensors.get(theirs[name])
        if given is not None and given.shape == tensor.shape:
            taken[name] = given
            _check_values(f"{theirs[name]} of {shown}", given, tensor)
    left = tuple(name for name in own if name not in taken)
    if not taken:
        raise UsageError(
            f"model.start: no tensor of {shown} has the name and shape of one of this model: give model the same "
            f"widths, or its tensors' names in model.start.names; it has {_some(weights.tensors)}, this model "
            f"{_some(own)}"
        )
    if settings.complete and left:
        raise UsageError(f"model.start: {shown} has no tensors of the name and shape of {_some(left)}")
    model.load_state_dict(taken, strict=False)
    used = {theirs[name] for name in taken}
    of_part = tuple(there.partition("*")[0] for there in weights.names.values()) or ("",)
    unused = [name for name in weights.tensors if name.startswith(of_part) and name not in used]
    log(
        f"starts from {weights.origin.get('checkpoint', 'the file')} of {shown}: takes {len(taken)} of {len(own)} "
        f"tensors{' of the body' if settings.part == 'body' else ''}"
        + (f", all but {', '.join(left)}" if left else "")
        + (f"; it has no use for {', '.join(unused)}" if unused else "")
    )
    return Start(weights, tuple(taken), left)


def _check_values(place: str, given: Tensor, tensor: Tensor) -> None:
    """Raise DataError where given values cannot be the weights of a tensor: no floats, or not finite."""
    if not tensor.is_floating_point():
        return
    if given.dtype not in FLOATS:
        raise DataError(
            f"model.start: {place} has values of the type {str(given.dtype).removeprefix('torch.')}, which are no "
            "weights without their scales: write them as float32"
        )
    if not bool(torch.isfinite(given.to(tensor.dtype)).all()):
        raise DataError(f"model.start: {place} has values that are not finite: give another file or run")


def _renamed(name: str, names: Mapping[str, str]) -> str:
    """Return the name there of a tensor here: by the first entry that it matches, otherwise the same."""
    ours = _entry(name, names)
    return name if ours is None else names[ours].replace("*", _rest(name, ours) or "")


def _entry(name: str, names: Mapping[str, str]) -> str | None:
    """Return the first pattern that a name matches."""
    return next((ours for ours in names if _rest(name, ours) is not None), None)


def _rest(name: str, pattern: str) -> str | None:
    """Return what the `*` of a pattern stands for in a name, "" without one; None where it does not match."""
    before, star, after = pattern.partition("*")
    if not star:
        return "" if name == pattern else None
    fits = len(name) >= len(before) + len(after) and name.startswith(before) and name.endswith(after)
    return name[len(before) : len(name) - len(after)] if fits else None


def _some(names: Mapping[str, Any] | tuple[str, ...]) -> str:
    listed = list(names)
    return ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "")


def _constant(kind: str, name: str) -> str:
    """Return a beginning of names that the module of a kind of model defines; "" without it."""
    return str(getattr(kinds.module("training.models", kind, "build"), name, ""))
