"""Figures of a model under named attacks, beside the clean ones: `[evaluate] attack_…`.

A row counts by the worst of what is tried on it. PGD tries the row itself, what FGSM makes of it, and the end of each
of its own restarts, so that a figure under PGD is never above that under FGSM.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.errors import UsageError
from common.images import data_uri, png_of, shown, uint8_of
from common.progress import Progress, log
from common.splitmix import scattered
from common.wording import rounded
from schemas.config import Configuration
from schemas.manifest import Manifest
from training.adversarial.attacks import FGSM, Attack, attacked, started, unmoved
from training.adversarial.surface import Moves, Surface, movable
from training.comparison.assessment import assess
from training.comparison.units import UnknownUnits, units_of
from training.input.batch_loader import BatchLoader, LocalBatch
from training.objectives import Judge, Judgement, Objective, Outputs, terms_of
from training.objectives.classification import LOGITS, Classification
from training.parallel.world import World

EXAMPLES = 8
NAMES = ("clean", "fgsm", "pgd")


@dataclass(frozen=True)
class Plan:
    """Attacks of an evaluation, which the data and the objective go with."""

    config: Configuration
    epsilon: float

    @property
    def attacks(self) -> dict[str, dict[str, Any]]:
        """Settings of each attack, as results state them."""
        settings = self.config.evaluate
        pgd = Attack.pgd(settings.attack_steps)
        return {
            "fgsm": {"epsilon": self.epsilon, "steps": FGSM.steps, "step_size": self.epsilon, "restarts": 0},
            "pgd": {
                "epsilon": self.epsilon,
                "steps": pgd.steps,
                "step_size": pgd.step_size * self.epsilon,
                "restarts": settings.attack_restarts,
            },
        }


def plan(config: Configuration, objective: Objective, method: Mapping[str, Any]) -> Plan | None:
    """Return the attacks to judge a model by that was trained with `[method]`; None for none.

    Raises UsageError where `evaluate.attack_epsilon` asks for what the data or the objective do not go with.
    """
    asked, kind = config.evaluate.attack_epsilon, config.objective.kind
    epsilon = method["epsilon"] if asked is None and method.get("kind") == "adversarial" else asked
    if epsilon is None:
        return None
    if objective.attacked_figure is None:
        why = f"objective.kind = {kind!r} has no figure that an attack would lower"
        if asked is not None:
            raise UsageError(f"evaluate.attack_epsilon: {why}: leave it out")
        log(f"note: the model is not judged under attack, since {why}")
        return None
    movable(config, objective.inputs)
    return Plan(config, epsilon)


def judge(
    planned: Plan, model: nn.Module, objective: Objective, manifest: Manifest, split: str, clean: Judgement
) -> dict[str, Any] | None:
    """Judge a model under attack on some rows of a split; return plain values for evaluation.json.

    `clean` is the model's judgement on the whole split; None where it has no results of rows.
    """
    if clean.results is None or not clean.rows:
        return None
    config, settings = planned.config, planned.config.evaluate
    features = movable(config, objective.inputs)
    surface = Surface(features, model)
    places = scattered(clean.results.keys)
    last = np.sort(places)[: settings.attack_rows][-1]
    trial = _Trial(planned, surface, objective, {name: objective.judge() for name in NAMES})
    count = int((places <= last).sum())
    with (
        BatchLoader(
            manifest,
            split,
            config.train,
            World(0, 1),
            batch=settings.batch,
            options=config.storage,
            with_ids=True,
        ) as loader,
        Progress("attacking", count, "rows") as progress,
    ):
        for batch in loader:
            taken = batch.rows_at(np.flatnonzero(scattered(batch.keys) <= last))
            if taken.rows:
                trial.add(taken)
                progress.update(taken.rows)
    found = {name: judge.judgement() for name, judge in trial.judges.items()}
    figure = objective.attacked_figure
    assert figure is not None  # `plan`
    document: dict[str, Any] = {
        "figure": figure,
        "rows": count,
        "split_rows": clean.rows,
        "moved": {feature.column.name: feature.kind for feature in features},
        "examples": trial.examples(),
    }
    for name, one in found.items():
        interval = _interval(one, manifest, split, config).get(figure)
        told = planned.attacks.get(name, {})
        document[name] = {
            **told,
            figure: one.figures[figure],
            "interval": interval,
            "figures": one.figures,
        }
    return document


def summary(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part for summary.json, by attack."""
    figure, clean = document["figure"], document["clean"]
    return {
        name: {
            **{key: value for key, value in document[name].items() if key != "figures"},
            "rows": document["rows"],
            f"clean_{figure}": clean[figure],
        }
        for name in ("fgsm", "pgd")
    }


def table(document: Mapping[str, Any]) -> str:
    """Return the figures as text for a terminal."""
    figure, pgd = document["figure"], document["pgd"]
    lines = [f"{figure} of {document['rows']:,} rows under attacks within ε = {pgd['epsilon']:g}"]
    labels = {
        "clean": "clean",
        "fgsm": "FGSM",
        "pgd": f"PGD-{pgd['steps']}, {pgd['restarts']} starts",
    }
    for name, label in labels.items():
        one = document[name]
        ends = (
            ""
            if one["interval"] is None
            else f"  {rounded(one['interval'][0])} to {rounded(one['interval'][1])}"
        )
        lines.append(f"{label:<20}  {rounded(one[figure]):>8}{ends}")
    return "\n".join(lines)


def _interval(found: Judgement, manifest: Manifest, split: str, config: Configuration) -> Mapping[str, Any]:
    if found.results is None:
        return {}
    try:
        units = units_of(manifest, split, found.results.keys, config.storage)
    except UnknownUnits:
        units = None
    return assess([found.results], units).intervals[0]


@dataclass
class _Worst:
    """Moves that harmed each row most so far."""

    moves: Moves
    harm: Tensor
    """(rows, 2): by the criterion, then by the loss."""

    def take(self, moves: Moves, harm: Tensor) -> None:
        first, second = harm.T
        worse = (first > self.harm[:, 0]) | ((first == self.harm[:, 0]) & (second > self.harm[:, 1]))
        self.harm = torch.where(worse[:, None], harm, self.harm)
        for name, one in moves.items():
            mask = worse.view(-1, *(1 for _ in one.shape[1:]))
            self.moves[name] = torch.where(mask, one, self.moves[name])


@dataclass
class _Trial:
    """Judges of a model under each attack, and examples of it."""

    planned: Plan
    surface: Surface
    objective: Objective
    judges: Mapping[str, Judge]
    rows: list[dict[str, Any]] = field(default_factory=list)

    @torch.no_grad()
    def add(self, batch: LocalBatch) -> None:
        """Attack a batch of at least one row."""
        surface, objective, seed = self.surface, self.objective, self.planned.config.train.seed
        settings = self.planned.config.evaluate
        box, still = surface.box(batch, self.planned.epsilon), unmoved(surface, batch)
        fast = attacked(surface, objective, batch, box, FGSM, still)
        worst = _Worst(dict(still), self._harm(batch, still))
        worst.take(fast, self._harm(batch, fast))
        for restart in range(settings.attack_restarts):
            start = started(surface, box, batch, seed, 0, restart)
            ends = attacked(surface, objective, batch, box, Attack.pgd(settings.attack_steps), start)
            worst.take(ends, self._harm(batch, ends))
        outputs = {}
        for name, moves in zip(NAMES, (still, fast, worst.moves), strict=True):
            with surface.moved(moves):
                outputs[name] = objective.predict(surface.model, batch)
            self.judges[name].add(batch, outputs[name])
        self._show(batch, worst.moves, outputs)

    def _harm(self, batch: LocalBatch, moves: Moves) -> Tensor:
        with self.surface.moved(moves):
            terms = terms_of(self.objective, self.surface.model, batch)
        found = {"loss": terms.loss, **terms.metrics}[self.objective.criterion]
        return torch.stack([-found if self.objective.higher_is_better else found, terms.loss], dim=1)

    def _show(self, batch: LocalBatch, moves: Moves, outputs: Mapping[str, Outputs]) -> None:
        """Keep the first rows, in the order of the sample, that the attack took away, or else those that withstood."""
        image = next((one.column.name for one in self.surface.features if one.kind == "image"), None)
        if image is None or not isinstance(self.objective, Classification) or batch.labels is None:
            return
        assert batch.record_ids is not None
        classes = self.objective.classes
        clean, under = (outputs[name][LOGITS].argmax(dim=1) for name in ("clean", "pgd"))
        lost = (clean == batch.labels) & (under != batch.labels)
        order = scattered(batch.keys)
        for row in np.lexsort((order, ~lost.numpy()))[:EXAMPLES].tolist():
            before = batch.features[image][row].float()
            change = moves[image][row]
            contrast = 127.5 * (1 + change / (255 * self.planned.epsilon))
            pictures = [before, before + change, contrast]
            self.rows.append(
                {
                    "record_id": str(batch.record_ids[row]),
                    "true": classes[int(batch.labels[row])],
                    "clean": classes[int(clean[row])],
                    "attacked": classes[int(under[row])],
                    "lost": bool(lost[row]),
                    "order": int(order[row]),
                    "pictures": [data_uri(shown(png_of(uint8_of(one.numpy())))) for one in pictures],
                }
            )
        self.rows = sorted(self.rows, key=lambda one: (not one["lost"], one["order"]))[:EXAMPLES]

    def examples(self) -> list[dict[str, Any]]:
        """Return the examples for evaluation.json."""
        return [{key: value for key, value in row.items() if key != "order"} for row in self.rows]
