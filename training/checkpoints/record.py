"""Records of checkpoints: what the JSON file beside each says, and which is the best."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from provenance.chain import ChainLink
from schemas.config import canonical_json

LINKED = ("epoch", "finished", "manifest_root", "position", "previous", "sha256", "step", "validation_loss")
"""Fields that two equal trainings have in common; neither paths nor times."""
LINKED_IF_SET = ("criterion", "started_from")
CheckpointState = dict[str, Any]


class Criterion(BaseModel):
    """Value of a validation that decides which checkpoint is the best."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """`loss`, or a metric of the objective."""
    value: float | None
    """None: it is not finite."""
    higher_is_better: bool

    @property
    def score(self) -> float | None:
        """The value, negated where a lower one is better."""
        return self.value if self.value is None or self.higher_is_better else -self.value

    def is_comparable(self, other: Self) -> bool:
        """Return True if the scores of the two are of the same scale."""
        return (self.name, self.higher_is_better) == (other.name, other.higher_is_better)


class Record(BaseModel):
    """Contents of the JSON file beside a checkpoint, and of its line in the chain."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    sha256: str
    """Hash of the file, which depends on nothing but the state: equal states have equal hashes."""
    previous: str | None
    """`chain` of the previous checkpoint."""
    chain: str
    """Result of `link`."""
    manifest_root: str
    configuration_sha256: str
    step: int
    epoch: int
    """Completed epochs."""
    position: int
    """Rows taken by all ranks together since the start of the training (on these data)."""
    finished: bool
    world_size: int
    validation_loss: float | None
    """Loss of the validation just before, if there was one and it is finite."""
    criterion: Criterion | None = None
    """Metric of that validation that decides in place of its loss."""
    started_from: str | None = None
    """SHA-256 of the checkpoint of another run, or of the file, that gave the first weights (`model.start`)."""
    seconds: float
    seconds_waited: float
    """Seconds of waiting for input, averaged over the ranks."""

    @classmethod
    def of(cls, state: CheckpointState, sha256: str, previous: str | None, facts: Mapping[str, Any]) -> Self:
        """Build the record of a state from the hash of its file; `facts` are the fields that do not follow from the
        two.
        """
        unlinked = cls(
            file=f"{name_of(state['step'])}.pt",
            sha256=sha256,
            previous=previous,
            chain="",
            manifest_root=state["manifest_root"],
            step=state["step"],
            position=state["position"],
            **facts,
        )
        return unlinked.model_copy(update={"chain": unlinked.link()})

    def link(self) -> str:
        """Return this checkpoint's hash in the chain: SHA-256 over the canonical JSON of the fields in LINKED.

        It can still be checked after the checkpoint itself is deleted.
        """
        names = {*LINKED, *(name for name in LINKED_IF_SET if getattr(self, name) is not None)}
        return hashlib.sha256(canonical_json(self.model_dump(mode="json", include=names))).hexdigest()

    @property
    def judged_by(self) -> Criterion | None:
        """Result by which this checkpoint is compared; None: it is never the best."""
        by_loss = Criterion(name="loss", value=self.validation_loss, higher_is_better=False)
        found = self.criterion or by_loss
        return None if found.value is None else found


def link_of(record: Record) -> ChainLink:
    return ChainLink(record.step, record.previous, record.chain, record.link())


def best_of(records: Sequence[Record]) -> Record | None:
    """Return the best record, as `ranked` has it; None if none was validated."""
    return next(iter(ranked(records)), None)


def ranked(records: Sequence[Record]) -> list[Record]:
    """Return the validated records, the best first; of equal ones, the earlier first.

    Only checkpoints since training went on to the newest data count, by the result that the newest of them is judged
    by: others cannot be compared.
    """
    root = records[-1].manifest_root if records else None
    since = itertools.takewhile(lambda record: record.manifest_root == root, reversed(records))
    judged = [(by, record) for record in since if (by := record.judged_by) is not None]
    scored = [
        (score, record)
        for by, record in reversed(judged)
        if (score := by.score) is not None and by.is_comparable(judged[0][0])
    ]
    return [record for _, record in sorted(scored, key=lambda one: -one[0])]


def name_of(step: int) -> str:
    return f"step-{step:08d}"
