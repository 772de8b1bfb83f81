"""Federated averaging: silos learn by themselves, and their updates are combined by a rule that may bear hostile ones.

A round begins with the same weights for every silo. Each learns on its own rows for some epochs, by plain steps with a
fresh optimizer (FedAvg, McMahan et al. 2017); then all ranks combine the silos' updates (`training.silos.combining`).
What ranks send each other is updates, norms and counts, and for a checkpoint within a round the states of silos; never
rows. They are one trust domain: every rank may see the updates of every silo, there is no secure aggregation.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from common.errors import UsageError
from common.wording import counted
from schemas.config import Configuration
from schemas.manifest import Manifest
from schemas.methods.federated import Federated as Settings
from training import optimizers
from training.checkpoints import tensors
from training.input.batch_loader import LocalBatch
from training.methods import Method, MethodContext, StepResult
from training.methods.plain import Plain
from training.parallel.alone import RingOfOne, refuse_exchange
from training.parallel.communicator import seed_of
from training.parallel.gradients import views_of
from training.silos import combining
from training.silos.order import owner, silos_of


class Local:
    """A silo within a round."""

    def __init__(
        self, number: int, context: MethodContext, weights: list[Tensor], scale: dict[str, Any]
    ) -> None:
        train = context.train
        if number:  # the first has the random states of plain training
            train = train.model_copy(update={"seed": seed_of(train.seed, number)})
        self.context = dataclasses.replace(context, train=train)
        self.optimizer = optimizers.build(context.model, context.optimizer)
        self.weights = [weight.clone() for weight in weights]
        self.scale = scale
        self.rows = 0
        """Rows that it has learned from."""

    def state(self) -> dict[str, Any]:
        optimizer = self.optimizer.state_dict()
        return {"weights": self.weights, "optimizer": optimizer, "scale": self.scale, "rows": self.rows}

    def load_state(self, state: dict[str, Any]) -> None:
        torch._foreach_copy_(self.weights, state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scale, self.rows = state["scale"], state["rows"]


class Federated(Method):
    """Method whose step is a local step of every silo of this rank; the model has the weights that a round begins with.

    A silo whose gradient is not finite skips the step by itself.
    """

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context)
        assert isinstance(context.method, Settings)
        self.settings = context.method
        self.alone = dataclasses.replace(context, communicator=RingOfOne())
        self.steps = Plain(self.alone)
        self.fresh_scale = self.steps.precision.state()
        self.parameters: list[Tensor] = list(self.steps.parameters)
        self.steps_of_a_round = context.steps_of_an_epoch * self.settings.local_epochs
        self.locals: dict[int, Local] = {}
        """Silos of this rank that have begun the round, by number."""
        self.collected: dict[int, dict[str, Any]] = {}
        """States of all silos within a round, from or for a checkpoint."""
        self.rounds = 0
        self.left_out: Counter[int] = Counter()
        """Rounds in which a silo's update was left out."""
        self.rows: dict[int, int] = {}
        """Rows that each silo learned from in the last round."""

    @classmethod
    def check(cls, config: Configuration, manifest: Manifest) -> None:
        settings, train = config.method, config.train
        assert isinstance(settings, Settings)
        silos = silos_of(manifest, settings.silos)
        if len(silos) < settings.least_silos:
            raise UsageError(
                f"method.combine = {settings.combine!r} with method.hostile = {settings.hostile} needs at least "
                f"{settings.least_silos} silos, and there {'is' if len(silos) == 1 else 'are'} "
                f"{counted(len(silos), 'silo')}: lower method.hostile, or publish more"
            )
        if train.epochs % settings.local_epochs:
            raise UsageError(
                f"train.epochs = {train.epochs} is no multiple of method.local_epochs = {settings.local_epochs}: the "
                "last round would not end"
            )
        refuse_exchange(train, settings.kind)

    def step(self, batch: LocalBatch, step: int, scheduled: int | None = None) -> StepResult:
        context, of_schedule = self.context, step if scheduled is None else scheduled
        self.collected = {}
        if of_schedule == 0:  # what a training on other data left is of other silos
            self.rounds, self.left_out, self.rows = 0, Counter(), {}
        if of_schedule % self.steps_of_a_round == 0:
            self.locals = {}
        begun = [parameter.detach().clone() for parameter in self.parameters]
        loss_sum = weight_sum = torch.zeros((), device=context.device)
        squares, overflow, first = 0.0, False, 0
        for number, rows in batch.silos:
            part = dataclasses.replace(batch.part(first, first + rows), global_rows=rows)
            result = self._local_step(number, part, begun, step, scheduled)
            loss_sum, weight_sum = loss_sum + result.loss_sum, weight_sum + result.weight_sum
            squares, overflow = squares + float(result.gradient_norm) ** 2, overflow or result.overflow
            first += rows
        self._put(begun)
        squares, overflows = context.communicator.sum_floats([squares, overflow])
        if (of_schedule + 1) % self.steps_of_a_round == 0:
            self._combine()
        rate = context.learning_rate(of_schedule)
        return StepResult(loss_sum, weight_sum, torch.tensor(squares).sqrt(), rate, overflows > 0)

    def _local_step(
        self, number: int, part: LocalBatch, begun: list[Tensor], step: int, scheduled: int | None
    ) -> StepResult:
        local, steps = self._local(number, begun), self.steps
        self._put(local.weights)
        steps.context, steps.optimizer = local.context, local.optimizer
        steps.precision.load_state(local.scale)
        result = steps.step(part, step, scheduled)
        torch._foreach_copy_(local.weights, [parameter.detach() for parameter in self.parameters])
        local.scale, local.rows = steps.precision.state(), local.rows + part.rows
        return result

    def _local(self, number: int, begun: list[Tensor]) -> Local:
        if number not in self.locals:
            self.locals[number] = Local(number, self.alone, begun, self.fresh_scale)
        return self.locals[number]

    @torch.no_grad()
    def _put(self, weights: list[Tensor]) -> None:
        torch._foreach_copy_(self.parameters, weights)

    @torch.no_grad()
    def _combine(self) -> None:
        """End the round: add what the rule makes of all silos' updates to the weights; called by all ranks."""
        communicator, rule = self.context.communicator, self.settings.combine
        begun = _flat(self.parameters)
        updates = {number: _flat(local.weights) - begun for number, local in sorted(self.locals.items())}
        mine = [(n, self.locals[n].rows, float(update.double().norm())) for n, update in updates.items()]
        facts = sorted(fact for of_rank in communicator.gather(mine) for fact in of_rank)
        numbers, rows, norms = (list(column) for column in zip(*facts, strict=True))
        left_out = list[int]()
        if rule in ("mean", "clipped_mean"):
            clip = None
            if rule == "clipped_mean":
                clip = combining.median_norm(norms) if self.settings.clip is None else self.settings.clip
            share = dict(zip(numbers, combining.shares(rows, norms, clip), strict=True))
            partial = combining.weighted(list(updates.values()), [share[number] for number in updates])
            combined = communicator.begin_sum(partial, "silos")().float()
        else:
            # Each row has one silo's update on one rank and zeros on all others, so the sum is exact.
            stack = torch.zeros((len(numbers), len(begun)), device=begun.device)
            for number, update in updates.items():
                stack[numbers.index(number)] = update
            combined, left_out = self._robust(communicator.begin_sum(stack, "silos")())
        weights = begun + combining.check_finite(combined, rule)
        self._put(views_of(weights, self.parameters))
        self.left_out.update(numbers[place] for place in left_out)
        self.rounds, self.locals, self.rows = self.rounds + 1, {}, dict(zip(numbers, rows, strict=True))

    def _robust(self, updates: Tensor) -> tuple[Tensor, list[int]]:
        if self.settings.combine == "multi_krum":
            return combining.multi_krum(updates, self.settings.hostile)
        if self.settings.combine == "trimmed_mean":
            return combining.trimmed_mean(updates, self.settings.hostile), []
        return combining.median(updates), []

    @property
    def settled(self) -> bool:
        return not self.locals

    def collect(self) -> None:
        mine = {number: local.state() for number, local in self.locals.items()}
        parts = self.context.communicator.gather(tensors.copied(mine))
        self.collected = {number: state for part in parts for number, state in part.items()}

    def state(self) -> dict[str, Any]:
        return {
            "rounds": self.rounds,
            "left_out": {str(number): count for number, count in sorted(self.left_out.items())},
            "rows": {str(number): count for number, count in sorted(self.rows.items())},
            "silos": {str(number): state for number, state in sorted(self.collected.items())},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.rounds = state["rounds"]
        self.left_out = Counter({int(number): count for number, count in state["left_out"].items()})
        self.rows = {int(number): count for number, count in state["rows"].items()}
        self.collected = {int(number): silo for number, silo in state["silos"].items()}

    def broadcast(self) -> None:
        communicator = self.context.communicator
        communicator.broadcast_parameters(self.model)
        self.load_state(communicator.broadcast(tensors.copied(self.state())))
        begun = [parameter.detach() for parameter in self.parameters]
        for number, state in self.collected.items():
            if owner(number, communicator.world.size) == communicator.world.rank:
                self._local(number, begun).load_state(state)
        self.collected = {}

    def facts(self) -> dict[str, Any]:
        silos = [
            {"silo": number, "rows": rows // self.settings.local_epochs, "left_out": self.left_out[number]}
            for number, rows in sorted(self.rows.items())
        ]
        settings = self.settings.model_dump(mode="json", exclude={"silos"})
        return {"federated": {**settings, "by": self.settings.silos, "rounds": self.rounds, "silos": silos}}


def _flat(weights: Sequence[Tensor]) -> Tensor:
    return torch.cat([weight.detach().reshape(-1) for weight in weights])
