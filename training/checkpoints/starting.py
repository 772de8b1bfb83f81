"""Start of a training from the weights of another run: `model.start`.

Only the body counts: what stands below the heads, by the prefix `BODY` of its tensors' names in the module of a model.
The optimizer begins anew.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from common import kinds
from common.errors import UsageError
from common.progress import log
from schemas.config import Configuration
from schemas.manifest import Manifest
from schemas.models import StartSettings
from schemas.runs import roots_of
from training.checkpoints import store
from training.checkpoints.record import CheckpointState, Record


@dataclass(frozen=True)
class Start:
    """Checkpoint that a training starts from, and the tensors that it takes."""

    run: Path
    record: Record
    taken: tuple[str, ...]
    """Names of the tensors of this model that begin with the other's values."""
    left: tuple[str, ...]
    """Names of those of its body that do not, because the other has none of that name and shape."""
    overlap: Mapping[str, Any] = field(default_factory=dict)
    """Records to judge by that the other has learned from: see `overlap.overlap`."""

    def as_json(self) -> dict[str, Any]:
        """Return the section `started_from` of run.json."""
        return {
            "run": str(self.run),
            "checkpoint": self.record.file,
            "sha256": self.record.sha256,
            "chain": self.record.chain,
            # So that erasure names this run too.
            "manifest_roots": sorted(roots_of(self.run)),
            "taken": list(self.taken),
            "left": list(self.left),
            "overlap": dict(self.overlap),
        }


def start_of(config: Configuration) -> Path | None:
    """Return the folder that `model.start` names; None without one, as of models that cannot have one."""
    model = config.model
    return Path(model.start) if isinstance(model, StartSettings) and model.start is not None else None


def find(config: Configuration, manifest: Manifest) -> tuple[Record, CheckpointState] | None:
    """Return the checkpoint of `model.start`, the best of that run; None where no start is configured.

    Raises UsageError where there is none, the run's chain does not have it, or its token ids have another meaning.
    """
    run = start_of(config)
    if run is None:
        return None
    found = store.best_good(run, log)
    if found is None:
        raise UsageError(
            f"model.start: the run {run} has no checkpoint in {store.folder_of(run)}: give the folder of a run, such "
            "as runs/demo, or train it first"
        )
    record, state = found
    if record.sha256 not in {one.sha256 for one in store.read_chain(run)}:
        raise UsageError(
            f"model.start: the chain of the run {run} does not have its checkpoint {record.file}"
        )
    theirs = _tokenizers(json.loads(state["columns"]))
    ours = _tokenizers([column.model_dump(mode="json") for column in manifest.content.columns])
    if not ours or ours[:1] != theirs[:1]:
        raise UsageError(
            f"model.start: the token ids of the run {run} are those of the tokenizer {_shown(theirs)}, those of this "
            f"data set of {_shown(ours)}: they would mean other words. Publish it with feature.tokenizer = the file "
            f"artifacts/{(theirs or ['…'])[0]} of that run's data set"
        )
    return found


def _tokenizers(columns: list[dict[str, Any]]) -> list[str]:
    """Return the SHA-256 of the tokenizer of each feature of tokens."""
    features = [column["artifacts"] for column in columns if column["role"] == "feature"]
    return [artifacts["tokenizer"] for artifacts in features if "tokenizer" in artifacts]


def _shown(tokenizers: list[str]) -> str:
    return f"{tokenizers[0][:16]}…" if tokenizers else "none"


def take(model: nn.Module, config: Configuration, found: tuple[Record, CheckpointState]) -> Start:
    """Give the body of a model the weights of a checkpoint's body, by name and shape; return what was taken.

    Raises UsageError where nothing fits.
    """
    record, state = found
    run = start_of(config)
    assert run is not None
    other = json.loads(state["decisive"])["model"]
    prefix, of_other = _body(config.model.kind), _body(other["kind"])
    heads = getattr(config.model, "heads", None)
    # No shape tells the heads of attention, without which its weights mean something else.
    if other.get("heads") != heads:
        raise UsageError(
            f"model.start: the run {run} has model.heads = {other.get('heads')}, this model {heads}: give it the same"
        )
    saved: Mapping[str, Any] = state["model"]
    own = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(prefix)}
    taken = {}
    for name, tensor in own.items():
        theirs = saved.get(of_other + name.removeprefix(prefix))
        if theirs is not None and theirs.shape == tensor.shape:
            taken[name] = theirs
    if not taken:
        raise UsageError(
            f"model.start: no tensor of the run {run} has the name and shape of one of this model: give "
            "model the same width, heads and feed_forward"
        )
    model.load_state_dict(taken, strict=False)
    start = Start(run, record, tuple(taken), tuple(name for name in own if name not in taken))
    used = {of_other + name.removeprefix(prefix) for name in taken}
    unused = [name for name in saved if name.startswith(of_other) and name not in used]
    log(
        f"starts from {record.file} of {start.run}: takes {len(taken)} of {len(own)} tensors of the body"
        + (f", all but {', '.join(start.left)}" if start.left else "")
        + (f"; of that run it has no use for {', '.join(unused)}" if unused else "")
    )
    return start


def _body(kind: str) -> str:
    """Return the prefix of the names of a model's body; a model without BODY is all body."""
    return str(getattr(kinds.module("training.models", kind, "build"), "BODY", ""))
