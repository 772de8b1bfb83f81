"""Objectives, one file a kind: what is lost, and what is measured.

`training/objectives/<kind>.py` has one subclass of `Objective`. Training, validation, evaluation and reports go through
it, and know no loss, label or metric of their own.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from common import kinds
from common.errors import UsageError
from common.pages.page import ReportSection
from schemas.config import Configuration
from schemas.manifest import Manifest
from training.input.batch_loader import LocalBatch

Outputs = Mapping[str, Tensor]
"""What a model returns: by head, (rows, size) float32."""


class Terms(NamedTuple):
    """What a batch contributes to the loss, before it is summed over a global batch."""

    loss: Tensor
    """(units,), float32, with a graph: a unit is a row, a token or a pixel."""
    weight: Tensor
    """(units,), float32: 0 leaves a unit out; class weights multiply here."""
    metrics: Mapping[str, Tensor] = {}
    """(units,) each, without a graph; validation shows their weighted means."""


@dataclass(frozen=True)
class Judgement:
    """How a model did on a split."""

    rows: int
    figures: dict[str, float]
    """By name; the first two stand at the top of the run report."""
    details: dict[str, Any] = field(default_factory=dict)
    """Plain values for evaluation.json, which the objective's own sections of the report are made from."""

    def as_json(self) -> dict[str, Any]:
        """Plain values for a JSON document."""
        return asdict(self)


class Judge(Protocol):
    """Judges a model batch by batch."""

    def add(self, batch: LocalBatch, outputs: Outputs) -> None:
        """Takes a batch and what the model returned for it, both on the CPU."""

    def judgement(self) -> Judgement:
        """The figures over all batches so far."""


class Objective(ABC):
    """A goal of training on one published data set."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """Roles of columns beside the features, such as `label`."""
    weighted = False
    """True where units may weigh other than 1, or are not rows: each step then sums the weights over all ranks."""
    outputs: Mapping[str, int]
    """The heads that a model must have, each with its size."""

    def __init__(self, config: Configuration, manifest: Manifest, device: torch.device) -> None:
        """`device` is where the batches lie that `terms` is given."""
        self.config, self.manifest, self.device = config, manifest, device

    @abstractmethod
    def terms(self, model: nn.Module, batch: LocalBatch) -> Terms:
        """The terms of a batch of at least one row; calls the model."""

    @abstractmethod
    def judge(self) -> Judge:
        """A judge that has seen nothing yet."""

    def baselines(self) -> dict[str, Judgement]:
        """Simple models judged on the test split, by name."""
        return {}

    def summary(self, found: Judgement, baselines: Mapping[str, Judgement]) -> dict[str, Any]:
        """What stands in summary.json beside the figures."""
        return {}

    def table(self, found: Judgement, baselines: Mapping[str, Judgement]) -> str:
        """The figures for a terminal."""
        return figures_table({"model": found.figures, **{k: v.figures for k, v in baselines.items()}})

    @classmethod
    def sections(cls, manifest: Manifest, evaluation: dict[str, Any] | None) -> list[ReportSection]:
        """The objective's part of the run report, from evaluation.json, or None before an evaluation."""
        from training.reporting.sections import figures  # only reports need it

        return [figures(evaluation)]


def kind(name: str) -> type[Objective]:
    """The class of an objective by its kind."""
    return cast(type[Objective], kinds.subclass("training.objectives", name, Objective))


def check(config: Configuration, manifest: Manifest) -> None:
    """Raises UsageError where the data set lacks a column that the objective needs."""
    name = config.objective.kind
    for role in sorted(kind(name).needs):
        try:
            manifest.column(role)
        except UsageError as error:
            raise UsageError(f"objective.kind = {name!r} needs a {role} column: {error}") from error


def build(config: Configuration, manifest: Manifest, device: torch.device) -> Objective:
    """The objective of `[objective] kind`. Raises UsageError as `check` does."""
    check(config, manifest)
    return kind(config.objective.kind)(config, manifest, device)


def figures_table(columns: Mapping[str, Mapping[str, float]], first: str = "") -> str:
    """Aligned text with a row a figure and a column a model."""
    names = list(dict.fromkeys(name for figures in columns.values() for name in figures))
    width = max([8, len(first), *map(len, names)])
    lines = [f"{first:<{width}}" + "".join(f"  {column:>8}" for column in columns)]
    for name in names:
        cells = "".join(
            f"  {figures[name]:>{max(8, len(column))}.3f}"
            if name in figures
            else "  " + " " * max(8, len(column))
            for column, figures in columns.items()
        )
        lines.append(f"{name:<{width}}{cells}")
    return "\n".join(lines)
