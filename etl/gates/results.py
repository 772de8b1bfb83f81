"""Outcome of the quality gates, and its wording."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import QualityGateError

LEFT_OUT = {
    "quarantine": "in the quarantine",
    "filtered": "filtered out by cleaning rules",
    "duplicate": "exact or near-duplicates",
    "label_conflict": "copies or near-copies of records with another label",
}
"""Words for records that are no rows of the shards, or perhaps should not be, in the gates about them."""
QUARANTINED, FILTERED = (f"share {LEFT_OUT[what]}" for what in ("quarantine", "filtered"))


@dataclass(frozen=True)
class GateResult:
    """Result of one gate: the number of judged rows, the worst observed value, and whether it passed."""

    name: str
    observed: str
    allowed: str
    passed: bool
    failures: list[str]
    """One clause for each row that fails."""
    remedy: str


@dataclass(frozen=True)
class GateResults:
    """All gates of one attempt to publish, and the location of their Data Docs."""

    gates: list[GateResult]
    data_docs: str
    validations: Sequence[Any] = ()
    """Great Expectations' result and suite of each table, from which the Data Docs are written."""

    @property
    def passed(self) -> bool:
        return all(gate.passed for gate in self.gates)

    def raise_for_failures(self) -> None:
        """Raise QualityGateError with a sentence for each failed gate; do nothing when all passed."""
        sentences = [sentence_of(gate) for gate in self.gates if not gate.passed]
        if sentences:
            count = "a quality gate" if len(sentences) == 1 else f"{len(sentences)} quality gates"
            raise QualityGateError(
                f"{count} failed and nothing was published: {'; '.join(sentences)}; details: {self.data_docs}"
            )


def sentence_of(gate: GateResult) -> str:
    """Return a sentence for the user: the failure, the limit and what to do."""
    shown, more = gate.failures[:3], len(gate.failures) - 3
    observed = ", ".join(shown) + (f" and {more:,} more like that" if more > 0 else "")
    return f"{observed}, allowed: {gate.allowed}: {gate.remedy}"
