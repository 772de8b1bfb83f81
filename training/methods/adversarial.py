"""Adversarial training: the plain update, from rows moved against the model within ε (Madry et al. 2018).

ε grows over the first epochs: at once, training in single steps may not learn at all. Validations judge the rows under
PGD as well, and the best checkpoint is the best under attack: by the clean figures alone it would be one from before ε
had grown, and FGSM would not notice a model that only hides its gradients from single steps.
"""

from typing import Any, cast

import torch
from torch import Tensor

from common.errors import UsageError
from common.progress import log
from schemas.config import Configuration
from schemas.manifest import Manifest
from schemas.methods.adversarial import STEPS
from schemas.methods.adversarial import Adversarial as Settings
from training import objectives
from training.adversarial.attacks import WONG, Attack, attacked, started
from training.adversarial.surface import Moves, Surface, movable
from training.input.batch_loader import LocalBatch
from training.methods import MethodContext
from training.methods.plain import Plain
from training.objectives import ATTACKED, Objective, Terms, terms_of

JUDGED_BY = Attack.pgd(5)
"""Attack of validations."""
SINGLE_STEP = 0.15
"""ε of images from which on training in single steps was seen to withstand single steps alone."""


class Adversarial(Plain):
    """Plain training on rows under attack."""

    judges_under_attack = True

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context)
        settings = self.settings = cast(Settings, context.method)
        steps = 1 if settings.attack == "fgsm" else settings.steps or STEPS
        usual = WONG if settings.attack == "fgsm" else Attack.pgd(steps).step_size
        self.attack = Attack(steps, settings.step_size or usual)
        self.features = movable(context.objective.config, context.objective.inputs)
        self.surface = Surface(self.features, self.model)
        epochs = context.train.epochs / 2 if settings.ramp is None else settings.ramp
        self.ramp = epochs * context.total_steps / context.train.epochs
        self.epsilon = 0.0
        """ε of the current step."""
        single = settings.attack == "fgsm" and settings.epsilon >= SINGLE_STEP
        if single and context.communicator.writes and any(one.kind == "image" for one in self.features):
            log(
                f"note: training in single steps at ε = {settings.epsilon:g} may come to withstand single steps alone: "
                'look at the accuracy under PGD, and set method.attack = "pgd" if it is low'
            )

    @classmethod
    def check(cls, config: Configuration, manifest: Manifest) -> None:
        check_objective(
            objectives.kind(config.objective.kind), config.objective.kind, 'method.kind = "adversarial"'
        )
        target = getattr(config.objective, "target", None)
        features = [column for column in manifest.content.columns if column.role == "feature"]
        movable(config, [column for column in features if column.name != target])

    def begin(self, step: int, scheduled: int | None) -> float:
        at = 1 + (step if scheduled is None else scheduled)
        self.epsilon = self.settings.epsilon * (min(1.0, at / self.ramp) if self.ramp else 1.0)
        return super().begin(step, scheduled)

    def terms(self, batch: LocalBatch, step: int) -> Terms:
        objective, share = self.context.objective, self.settings.clean
        with self.surface.moved(self.moves(batch, step)):
            found = terms_of(objective, self.model, batch)
        if not share:
            return found
        clean = super().terms(batch, step)
        return Terms(torch.lerp(found.loss, clean.loss, share), found.weight, found.metrics)

    def moves(self, batch: LocalBatch, step: int) -> Moves:
        """Return the moves of a step's attack on some of its rows."""
        box = self.surface.box(batch, self.epsilon)
        start = started(self.surface, box, batch, self.context.train.seed, step)
        scaled = self.precision.scaled
        return attacked(self.surface, self.context.objective, batch, box, self.attack, start, scaled)

    def validation_terms(self, batch: LocalBatch) -> Terms:
        found, objective = super().validation_terms(batch), self.context.objective
        surface = Surface(self.features, self.judged)
        box = surface.box(batch, self.settings.epsilon)
        start = started(surface, box, batch, self.context.train.seed, 0)
        with surface.moved(attacked(surface, objective, batch, box, JUDGED_BY, start)):
            moved = terms_of(objective, self.judged, batch)
        under_attack: dict[str, Tensor] = {"loss": moved.loss, **moved.metrics}
        named = {f"{ATTACKED}{name}": values for name, values in under_attack.items()}
        return Terms(found.loss, found.weight, {**found.metrics, **named})

    def facts(self) -> dict[str, Any]:
        settings = self.settings
        return {
            **super().facts(),
            "adversarial": {
                "attack": settings.attack,
                "epsilon": settings.epsilon,
                "steps": self.attack.steps,
                "step_size": self.attack.step_size * settings.epsilon,
            },
        }


def check_objective(objective: type[Objective], kind: str, asked_by: str) -> None:
    """Raise UsageError for an objective whose rows an attack cannot be led against."""
    if not objective.attackable:
        raise UsageError(
            f"{asked_by} attacks the answer to each row, and objective.kind = {kind!r} has none that an attack fits: "
            "choose another objective, or leave it out"
        )
