"""Objectives, one file per kind: losses, metrics and judgements.

`training/objectives/<kind>.py` has one subclass of `Objective`. Training, validation, evaluation and reports use only
this interface, and know no loss, label or metric of their own.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from common import kinds
from common.errors import UsageError
from common.pages.page import ReportSection
from common.wording import rounded
from schemas.config import Configuration
from schemas.manifest import Column, Manifest
from training.comparison.assessment import Comparison, RowResults, signed, told_units
from training.comparison.statistics import Interval
from training.input.batch_loader import LocalBatch

RESERVED = frozenset({"step", "kind", "epoch", "position", "loss", "weight"})
"""Names that metrics of an objective cannot have."""
ATTACKED = "attacked_"
"""Beginning of the names of a validation's results under attack."""
Outputs = Mapping[str, Tensor]
"""Outputs of a model: by head, (rows, size) float32."""


class Terms(NamedTuple):
    """Contribution of a batch to the loss, before it is summed over a global batch."""

    loss: Tensor
    """(units,), float32, with a graph; a unit is a row, a token or a pixel."""
    weight: Tensor
    """(units,), float32: 0 excludes a unit, whose loss and metrics must be finite all the same; class weights are
    multiplied in here.
    """
    metrics: Mapping[str, Tensor] = {}
    """(units,) each, without a graph; validation reports their weighted means."""


@dataclass(frozen=True)
class Judgement:
    """Performance of a model on a split."""

    rows: int
    figures: dict[str, float]
    """Figures by name; the first two appear at the top of the run report."""
    details: dict[str, Any] = field(default_factory=dict)
    """Plain values for evaluation.json, from which the objective's own sections of the report are made."""
    results: RowResults | None = None
    """Results row by row, from which the evaluation draws intervals and compares baselines; None: neither is shown."""
    intervals: dict[str, Interval | None] = field(default_factory=dict)
    """Intervals of the figures at 95%, filled in by the evaluation."""
    comparison: Comparison | None = None
    """The model's comparison with this baseline, filled in by the evaluation."""

    def as_json(self) -> dict[str, Any]:
        """Return plain values for a JSON document, without the results of rows."""
        return {
            "rows": self.rows,
            "figures": self.figures,
            "intervals": self.intervals,
            "details": self.details,
            "comparison": None if self.comparison is None else self.comparison.as_json(),
        }


class Judge(Protocol):
    """Judge of a model, fed batch by batch."""

    def add(self, batch: LocalBatch, outputs: Outputs) -> None:
        """Add a batch and the model's outputs for it, both on the CPU."""

    def judgement(self) -> Judgement:
        """Return the figures over all batches so far."""


class Objective(ABC):
    """Goal of training on one published data set."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """Roles of columns needed besides the features, such as `label`."""
    uses_class_weights: ClassVar[bool] = False
    """True if `terms` multiplies the class weights of `balance.policy = "weights"` in; others refuse such data."""
    weighted = False
    """True if units may have weights other than 1, or are not rows: each step then sums the weights over all ranks."""
    criterion: ClassVar[str] = "loss"
    """Result of a validation that decides which checkpoint is the best: `loss`, or a metric of `terms`."""
    higher_is_better: ClassVar[bool] = False
    """True if a higher `criterion` is better."""
    chooses_on_validation: ClassVar[bool] = False
    """True if the judge is first fed the validation split, to choose a threshold or the like from it."""
    attackable: ClassVar[bool] = False
    """True if a model answers each row, and a small change of the row that raises the loss makes the answer worse."""
    attacked_figure: ClassVar[str | None] = None
    """Figure of a judgement that the evaluation shows under attack; None: it has none that tells how a model stands."""
    of_loss: ClassVar[Mapping[str, Callable[[float], float]]] = {}
    """Curves for the report that follow from the loss, by name."""
    judged_by_ids: ClassVar[bool] = False
    """True if the judge needs the record ids of its batches, and the documents of packed rows."""
    outputs: Mapping[str, int]
    """Heads that a model must have, each with its size."""

    def __init__(self, config: Configuration, manifest: Manifest, device: torch.device) -> None:
        """Set up the objective; `device` is the device of the batches passed to `terms`."""
        self.config, self.manifest, self.device = config, manifest, device

    @property
    def inputs(self) -> list[Column]:
        """Feature columns that the model takes; the others are the objective's own, such as a target."""
        return [column for column in self.manifest.content.columns if column.role == "feature"]

    @property
    def rows(self) -> int:
        """Rows of all splits."""
        return sum(split.rows for split in self.manifest.splits.values())

    @abstractmethod
    def terms(self, model: nn.Module, batch: LocalBatch) -> Terms:
        """Return the terms of a batch of at least one row; calls the model."""

    @abstractmethod
    def judge(self) -> Judge:
        """Return a new judge."""

    def predict(self, model: nn.Module, batch: LocalBatch) -> Outputs:
        """Return what the judge needs of the model's outputs for a batch: by default all of them."""
        outputs: Outputs = model(batch.features)
        return outputs

    def examined(self, model: nn.Module, found: Judgement) -> Judgement:
        """Return the judgement with what the model has to be run again for, such as texts that it writes."""
        return found

    def baselines(self) -> dict[str, Judgement]:
        """Evaluate simple models on the test split, by name."""
        return {}

    def decision(self, found: Judgement) -> dict[str, Any]:
        """Return what the evaluation chose and an application needs besides the weights; {}: nothing."""
        return {}

    def summary(self, found: Judgement, baselines: Mapping[str, Judgement]) -> dict[str, Any]:
        """Return the objective's own entries in summary.json, besides the figures."""
        return {}

    def summary_without_rows(self) -> dict[str, Any]:
        """Return what `summary` returns, for a split without rows: None in place of figures."""
        return {}

    def table(self, found: Judgement, baselines: Mapping[str, Judgement]) -> str:
        """Return the figures as text for a terminal, and what the rows can show of the differences."""
        figures = figures_table({"model": found.figures, **{k: v.figures for k, v in baselines.items()}})
        compared = {name: one.comparison for name, one in baselines.items() if one.comparison is not None}
        return "\n".join([figures, *(differences_table(name, one) for name, one in compared.items())])

    @classmethod
    def sections(cls, manifest: Manifest, evaluation: dict[str, Any] | None) -> list[ReportSection]:
        """Return the objective's part of the run report, from evaluation.json, or from None before an evaluation."""
        from training.reporting.sections import figures  # only reports need it

        return [figures(evaluation, manifest)]


def kind(name: str) -> type[Objective]:
    """Return the class of an objective by its kind."""
    return cast(type[Objective], kinds.subclass("training.objectives", name, Objective))


def check(config: Configuration, manifest: Manifest) -> None:
    """Raise UsageError if the data set lacks a column that the objective needs, or has class weights without use."""
    name = config.objective.kind
    chosen = kind(name)
    if manifest.splits["train"].balance.policy == "weights" and not chosen.uses_class_weights:
        raise UsageError(
            f"the data set was published with balance.policy = 'weights', and objective.kind = {name!r} uses no class "
            "weights: publish it again with balance.policy = 'none' or 'oversample', or choose another objective"
        )
    for role in sorted(chosen.needs):
        try:
            manifest.column(role)
        except UsageError as error:
            raise UsageError(f"objective.kind = {name!r} needs a {role} column: {error}") from error


def build(config: Configuration, manifest: Manifest, device: torch.device) -> Objective:
    """Build the objective of `[objective] kind`. Raises UsageError as `check` does."""
    check(config, manifest)
    return kind(config.objective.kind)(config, manifest, device)


def terms_of(objective: Objective, model: nn.Module, batch: LocalBatch) -> Terms:
    """Return the objective's terms.

    Raises UsageError for shapes that differ, a metric of a RESERVED name, and a `criterion` that is no metric.
    """
    terms = objective.terms(model, batch)
    shapes = {"loss": terms.loss, "weight": terms.weight, **terms.metrics}
    if len({getattr(one, "shape", None) for one in shapes.values()}) > 1 or terms.loss.dim() != 1:
        found = {key: tuple(one.shape) if isinstance(one, Tensor) else one for key, one in shapes.items()}
        raise UsageError(
            f"the terms of the objective {objective.config.objective.kind!r} must all be tensors of the same shape "
            f"(units,), not {found}"
        )
    if taken := RESERVED.intersection(terms.metrics):
        raise UsageError(
            f"the objective {objective.config.objective.kind!r} has a metric {min(taken)!r}: rename it, since each "
            "validation has a value of that name already"
        )
    if objective.criterion not in {"loss", *terms.metrics}:
        raise UsageError(
            f"the objective {objective.config.objective.kind!r} compares checkpoints by {objective.criterion!r}, but "
            "its terms have no such metric: add it there, or mend `criterion`"
        )
    return terms


def differences_table(baseline: str, comparison: Comparison) -> str:
    """Return aligned text with a row per figure: difference from a baseline, interval at 95%, verdict."""
    width = max([8, *map(len, comparison.figures)])
    lines = [
        f"model less {baseline}: difference, 95% interval, and whether {told_units(comparison)} can show it"
    ]
    for name, one in comparison.figures.items():
        ends = "none" if one.interval is None else " to ".join(map(signed, one.interval))
        lines.append(f"{name:<{width}}  {signed(one.difference):>8}  {ends:<16}  {one.told}")
    return "\n".join(lines)


def figures_table(columns: Mapping[str, Mapping[str, float]], first: str = "") -> str:
    """Return aligned text with a row per figure and a column per model."""
    names = list(dict.fromkeys(name for figures in columns.values() for name in figures))
    width = max([8, len(first), *map(len, names)])
    lines = [f"{first:<{width}}" + "".join(f"  {column:>8}" for column in columns)]
    for name in names:
        cells = "".join(
            f"  {rounded(figures[name]):>{max(8, len(column))}}"
            if name in figures
            else "  " + " " * max(8, len(column))
            for column, figures in columns.items()
        )
        lines.append(f"{name:<{width}}{cells}")
    return "\n".join(lines)
