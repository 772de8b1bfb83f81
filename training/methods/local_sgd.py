"""Local SGD: ranks step by themselves and average their weights now and then (Stich 2019).

Each rank makes plain steps on its own rows of each global batch. Every `synchronise_every` steps, and at the end of an
epoch, the weights become their mean over the ranks, weighted by the rows that each has learned from since. Between two
synchronisations the ranks send each other the norms of their gradients and nothing else.
"""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from schemas.config import Configuration
from schemas.manifest import Manifest
from schemas.methods.local_sgd import LocalSgd as Settings
from training.checkpoints import tensors
from training.input.batch_loader import LocalBatch
from training.methods import Method, MethodContext, StepResult
from training.methods.plain import Plain
from training.parallel.alone import RingOfOne, refuse_exchange
from training.parallel.communicator import seed_of
from training.parallel.gradients import views_of


class LocalSgd(Method):
    """Method whose ranks have weights of their own between two synchronisations.

    A rank whose gradient is not finite skips the step by itself.
    """

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context)
        assert isinstance(context.method, Settings)
        self.settings = context.method
        train, rank = context.train, context.communicator.world.rank
        if rank:
            train = train.model_copy(update={"seed": seed_of(train.seed, rank)})
        self.inner = Plain(dataclasses.replace(context, communicator=RingOfOne(), train=train))
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.rows = 0
        """Rows that this rank has learned from since the last synchronisation."""
        self.collected: list[dict[str, Any]] = []
        """States of the ranks, from or for a checkpoint; a single one where all are equal."""
        self.mean: nn.Module | None = None
        """Mean of the ranks' weights, for a checkpoint between two synchronisations."""

    @classmethod
    def check(cls, config: Configuration, manifest: Manifest) -> None:
        refuse_exchange(config.train, config.method.kind)

    @property
    def judged(self) -> nn.Module:
        return self.model if self.mean is None else self.mean

    def step(self, batch: LocalBatch, step: int, scheduled: int | None = None) -> StepResult:
        context, of_schedule = self.context, step if scheduled is None else scheduled
        self.collected, self.mean = [], None
        if batch.rows:
            result = self.inner.step(dataclasses.replace(batch, global_rows=batch.rows), step, scheduled)
        else:
            # Even without a gradient, a step of an optimizer would move the weights.
            nothing = torch.zeros((), device=context.device)
            rate = context.learning_rate(of_schedule)
            result = StepResult(nothing, nothing, nothing, rate)
        self.rows, done = self.rows + batch.rows, of_schedule + 1
        squares, overflows = context.communicator.sum_floats(
            [float(result.gradient_norm) ** 2, result.overflow]
        )
        if done % self.settings.synchronise_every == 0 or done % context.steps_of_an_epoch == 0:
            self.synchronise()
        norm = torch.tensor(squares).sqrt()
        return dataclasses.replace(result, gradient_norm=norm, overflow=overflows > 0)

    @torch.no_grad()
    def synchronise(self) -> None:
        """Average the weights of all ranks, and the optimizers' state if so configured; called by all of them."""
        communicator = self.context.communicator
        if communicator.world.size > 1:
            total, with_state = communicator.sum_integers([self.rows, bool(self.inner.optimizer.state)])
            averaged = list[Tensor](self.parameters)
            if self.settings.optimizer_state == "average":
                if 0 < with_state < communicator.world.size:
                    self._share_state()
                averaged += self._tensors_of_state()
            self._average(averaged, total)
        self.rows = 0

    def _average(self, averaged: Sequence[Tensor], total: int) -> None:
        """Make tensors their mean over the ranks, weighted by rows, of which there are `total`."""
        flat = torch.cat([tensor.detach().reshape(-1).float() for tensor in averaged]) * (self.rows / total)
        mean = self.context.communicator.begin_sum(flat, f"local.{len(flat)}")()
        for tensor, part in zip(averaged, views_of(mean, averaged), strict=True):
            tensor.copy_(part)

    def _tensors_of_state(self) -> list[Tensor]:
        """Return the optimizer's tensors in an order that is the same on all ranks."""
        state = self.inner.optimizer.state
        of_each = (state[p] for p in self.parameters if p in state)
        return [one[key] for one in of_each for key in sorted(one) if isinstance(one[key], Tensor)]

    def _share_state(self) -> None:
        """Give a state to the ranks that have had no rows yet, which count for nothing in the mean."""
        communicator, optimizer = self.context.communicator, self.inner.optimizer
        donor = communicator.gather(bool(optimizer.state)).index(True)
        state = communicator.broadcast_from(donor, tensors.copied(optimizer.state_dict()))
        if not optimizer.state:
            optimizer.load_state_dict(state)

    @torch.no_grad()
    def collect(self) -> None:
        communicator, optimizer = self.context.communicator, self.inner.optimizer
        total = communicator.sum_integers([self.rows])[0]
        mine: dict[str, Any] = {
            "optimizer": optimizer.state_dict(),
            "scale": self.inner.precision.state(),
            "rows": self.rows,
        }
        if total:
            mine["weights"] = list(self.parameters)
            self.mean = copy.deepcopy(self.model)
            self._average([p for p in self.mean.parameters() if p.requires_grad], total)
        elif self.settings.optimizer_state == "average" and self._alike(mine):
            self.collected = [mine]
            return
        self.collected = communicator.gather(tensors.copied(mine))

    def _alike(self, mine: dict[str, Any]) -> bool:
        """Return True if what no average covers, such as the scale of fp16, is equal on all ranks."""
        groups = mine["optimizer"]["param_groups"]
        found = self.context.communicator.gather([mine["scale"], groups])
        return all(one == found[0] for one in found)

    def facts(self) -> dict[str, Any]:
        return {"local_sgd": self.settings.model_dump(mode="json")}

    def state(self) -> dict[str, Any]:
        return {"ranks": self.collected}

    def load_state(self, state: dict[str, Any]) -> None:
        self.collected = state["ranks"]

    @torch.no_grad()
    def broadcast(self) -> None:
        """Give all ranks the weights of rank 0, and each the state that it had, or of another where it had none."""
        communicator = self.context.communicator
        communicator.broadcast_parameters(self.model)
        states = communicator.broadcast(tensors.copied(self.collected))
        self.collected = []
        if states:
            mine = states[communicator.world.rank % len(states)]
            self.inner.load_state(mine)
            if len(states) == communicator.world.size and "weights" in mine:
                self.rows = mine["rows"]
                torch._foreach_copy_(list[Tensor](self.parameters), mine["weights"])
