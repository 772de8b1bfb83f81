"""What came of the quality gates, and how it is said."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import QualityGateError


@dataclass(frozen=True)
class GateResult:
    """One gate: how many rows were judged, the worst value as it was observed, and whether it passed."""

    name: str
    observed: str
    allowed: str
    passed: bool
    failures: list[str]
    """One clause for each row that fails."""
    remedy: str


@dataclass(frozen=True)
class GateResults:
    """All gates of one attempt to publish, and where their Data Docs lie."""

    gates: list[GateResult]
    data_docs: str
    validations: Sequence[Any] = ()
    """Great Expectations' result and suite of each table, from which the Data Docs are written."""

    @property
    def passed(self) -> bool:
        return all(gate.passed for gate in self.gates)

    def raise_for_failures(self) -> None:
        """Raises QualityGateError with a sentence for each failed gate; does nothing when all passed."""
        sentences = [sentence_of(gate) for gate in self.gates if not gate.passed]
        if sentences:
            count = "a quality gate" if len(sentences) == 1 else f"{len(sentences)} quality gates"
            raise QualityGateError(
                f"{count} failed and nothing was published: {'; '.join(sentences)}; details: {self.data_docs}"
            )


def sentence_of(gate: GateResult) -> str:
    """What failed, what is allowed and what to do, for a person."""
    shown, more = gate.failures[:3], len(gate.failures) - 3
    observed = ", ".join(shown) + (f" and {more:,} more like that" if more > 0 else "")
    return f"{observed}, allowed: {gate.allowed}: {gate.remedy}"
