"""Plain training: one update per step from the gradients of all ranks over the global batch."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from training import optimizers
from training.checkpoints import tensors
from training.input.batch_loader import LocalBatch
from training.methods import Method, MethodContext, StepResult
from training.objectives import Terms, terms_of
from training.optimizers.averaging import averaged
from training.optimizers.precision import Precision
from training.parallel import gradients
from training.parallel.communicator import seed_of


class Plain(Method):
    """Method whose update is that of one process on the whole batch, however the rows are spread.

    Each rank's loss is the weighted sum over its units, divided by the rows of the *global* batch or by its total
    weight; the ranks' gradients are then summed. Other methods override a part of the step.
    """

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context)
        decay = context.train.ema_decay
        # Copied before anything is attached to the model.
        self.average = None if decay is None else averaged(self.model, decay)
        self.precision = Precision(context.train, context.device, self.model)
        self.optimizer = optimizers.build(self.model, context.optimizer)
        self.exchange = gradients.build(context.train, self.model, context.communicator, context.device)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]

    @property
    def judged(self) -> nn.Module:
        return self.model if self.average is None else self.average.module

    def step(self, batch: LocalBatch, step: int, scheduled: int | None = None) -> StepResult:
        rate = self.begin(step, scheduled)
        loss_sum, weight_sum = self.differentiate(batch.to(self.context.device), step)
        taught = self.sum(batch, weight_sum)
        norm, overflow = self.update(taught)
        return StepResult(loss_sum, weight_sum, norm, rate, overflow)

    def begin(self, step: int, scheduled: int | None) -> float:
        """Set the random state and the learning rate of a step; return the rate."""
        context = self.context
        # No rank has to save a random state: it follows from seed, step and rank.
        torch.manual_seed(seed_of(context.train.seed, step, context.communicator.world.rank))
        rate = context.learning_rate(step if scheduled is None else scheduled)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        self.model.train()
        return rate

    def differentiate(self, batch: LocalBatch, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Leave the gradient over this rank's rows with the exchange, as `train.accumulate` cuts them.

        Returns the sums of their weighted losses and of their weights.
        """
        self.exchange.begin()
        sums = torch.zeros(2, device=self.context.device)
        parts = list(cut(batch, self.context.train.accumulate))
        for number, part in enumerate(parts, start=1):
            sums += torch.stack(self.backward(part, step, last=number == len(parts)))
        return sums[0], sums[1]

    def backward(self, batch: LocalBatch, step: int, last: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Run forward and backward over rows of this rank; return the sums of their weighted losses and their weights.

        `last` as for `gradients.Exchange.backward`.
        """
        if not batch.rows:
            self.exchange.backward(None, last)
            return torch.zeros((), device=self.context.device), torch.zeros((), device=self.context.device)
        with self.precision.autocast():
            terms = self.terms(batch, step)
        loss_sum, weight_sum = (terms.loss * terms.weight).sum(), terms.weight.sum()
        # Times 1, or times NaN if the loss is not finite: then neither is the gradient, on any rank.
        loss = loss_sum / batch.global_rows * (1 + 0 * loss_sum.detach())
        self.exchange.backward(self.precision.scaled(loss), last)
        return loss_sum.detach(), weight_sum

    def terms(self, batch: LocalBatch, step: int) -> Terms:
        """Return the terms that the update is made from, for at least one row."""
        return terms_of(self.context.objective, self.model, batch)

    def sum(self, batch: LocalBatch, weight_sum: torch.Tensor) -> bool:
        """Sum the gradients over the ranks; return False if no unit has any weight."""
        context, whole, total = self.context, weight_sum, None
        weighted = context.objective.weighted
        if weighted and context.communicator.world.size > 1:
            total = context.communicator.begin_sum(weight_sum.double(), "weights")
        self.exchange.sum()
        if not weighted:
            return True
        if total is not None:
            whole = total().float()
        # A batch without any weight teaches nothing: 0 times infinity would be no number.
        factor = torch.where(whole > 0, batch.global_rows / whole, 0.0)
        torch._foreach_mul_([p.grad for p in self.parameters if p.grad is not None], factor)
        return bool(whole > 0)

    def update(self, taught: bool = True) -> tuple[torch.Tensor, bool]:
        """Change the weights by the gradients in `grad`, unless these are not finite or nothing was `taught`.

        Returns the norm of the gradient before clipping, and whether it is not finite for a too high scale.
        """
        overflow = self.precision.unscale(self.optimizer)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        # The norm is that of the global gradient: the same on all ranks, and no weight takes up a non-finite value.
        # Nor is such a gradient clipped, which would spread it over buffers that the exchange keeps from step to step.
        if torch.isfinite(norm) and taught:
            if (limit := self.context.train.clip_norm) is not None:
                torch.nn.utils.clip_grads_with_norm_(self.parameters, limit, norm)
            self.optimizer.step()
            if self.average is not None:
                self.average.update_parameters(self.model)
        return norm, overflow

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"optimizer": self.optimizer.state_dict()}
        if scale := self.precision.state():
            state["scale"] = scale
        if self.average is not None:
            # The model's place in a checkpoint is the average's.
            state |= {"weights": dict(self.model.state_dict()), "averaged": int(self.average.n_averaged)}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        configured = [{k: v for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, values in zip(self.optimizer.param_groups, configured, strict=True):
            group.update(values)  # they may differ if training continues on other data
        self.precision.load_state(state.get("scale", {}))
        if self.average is not None and "weights" in state:
            self.average.n_averaged.fill_(state["averaged"])
            self.model.load_state_dict(state["weights"])

    def broadcast(self) -> None:
        communicator = self.context.communicator
        if communicator.world.size == 1:
            return
        communicator.broadcast_parameters(self.model)
        if self.average is not None:
            communicator.broadcast_parameters(self.average)
        # Horovod's own broadcast of a fresh optimizer's state makes a step with zero gradients, in which AdamW's decay
        # changes the weights; sending the state as it is does not. Tensors of rank 0's GPU would arrive on that GPU.
        state = tensors.copied([self.optimizer.state_dict(), self.precision.state()])
        optimizer, scale = communicator.broadcast(state if communicator.writes else None)
        self.optimizer.load_state_dict(optimizer)
        self.precision.load_state(scale)


def cut(batch: LocalBatch, parts: int) -> Iterator[LocalBatch]:
    """Yield a rank's rows in so many parts of nearly equal size, some without rows where there are too few."""
    if parts == 1:
        yield batch
        return
    for number in range(parts):
        yield batch.part(batch.rows * number // parts, batch.rows * (number + 1) // parts)
