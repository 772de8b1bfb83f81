"""Plain training: one update per step from the gradients of all ranks over the global batch."""

from typing import Any

import horovod.torch as hvd
import torch

from training import optimizers
from training.checkpoints import tensors
from training.input.batch_loader import LocalBatch
from training.methods import Method, MethodContext, StepResult
from training.objectives import terms_of
from training.parallel import gradients
from training.parallel.communicator import seed_of, wait_for


class Plain(Method):
    """Method whose update is that of one process on the whole batch, however the rows are spread.

    Each rank's loss is the weighted sum over its units, divided by the rows of the *global* batch or by its total
    weight; the ranks' gradients are then summed.
    """

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context)
        self.optimizer = optimizers.build(self.model, context.optimizer)
        self.exchange = gradients.build(context.train, self.model, context.communicator, context.device)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]

    def step(self, batch: LocalBatch, step: int, scheduled: int | None = None) -> StepResult:
        context, world = self.context, self.context.communicator.world
        # No rank has to save a random state: it follows from seed, step and rank.
        torch.manual_seed(seed_of(context.train.seed, step, world.rank))
        of_schedule = step if scheduled is None else scheduled
        rate = optimizers.learning_rate(context.optimizer, of_schedule, context.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        self.exchange.begin()
        loss_sum, weight_sum = self.backward(batch.to(context.device))
        whole, total = weight_sum, None
        if context.objective.weighted and world.size > 1:
            # In float64, so that Horovod never fuses it with the gradients, whose order of summation would change.
            total = hvd.allreduce_async(weight_sum.double(), op=hvd.Sum, name="weights")
        self.exchange.sum()
        if context.objective.weighted:
            if total is not None:
                wait_for(total)
                whole = hvd.synchronize(total).float()
            # A batch without any weight teaches nothing: 0 times infinity would be no number.
            factor = torch.where(whole > 0, batch.global_rows / whole, 0.0)
            torch._foreach_mul_([p.grad for p in self.parameters if p.grad is not None], factor)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        # The norm is that of the global gradient: the same on all ranks, and no weight takes up a non-finite value.
        # Nor is such a gradient clipped, which would spread it over buffers that the exchange keeps from step to step.
        taught = not context.objective.weighted or bool(whole > 0)
        if torch.isfinite(norm) and taught:
            if (limit := context.train.clip_norm) is not None:
                torch.nn.utils.clip_grads_with_norm_(self.parameters, limit, norm)
            self.optimizer.step()
        return StepResult(loss_sum, weight_sum, norm, rate)

    def backward(self, batch: LocalBatch, last: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Run forward and backward over rows of this rank; return the sums of their weighted losses and their weights.

        `last` as for `gradients.Exchange.backward`.
        """
        if not batch.rows:
            self.exchange.backward(None, last)
            return torch.zeros((), device=self.context.device), torch.zeros((), device=self.context.device)
        terms = terms_of(self.context.objective, self.model, batch)
        loss_sum, weight_sum = (terms.loss * terms.weight).sum(), terms.weight.sum()
        # Times 1, or times NaN if the loss is not finite: then neither is the gradient, on any rank.
        self.exchange.backward(loss_sum / batch.global_rows * (1 + 0 * loss_sum.detach()), last)
        return loss_sum.detach(), weight_sum

    def state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        configured = [{k: v for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, values in zip(self.optimizer.param_groups, configured, strict=True):
            group.update(values)  # they may differ if training continues on other data

    def broadcast(self) -> None:
        communicator = self.context.communicator
        if communicator.world.size == 1:
            return
        hvd.broadcast_parameters(self.model.state_dict(), root_rank=0)
        # Horovod's own broadcast of a fresh optimizer's state makes a step with zero gradients, in which AdamW's decay
        # changes the weights; sending the state as it is does not. Tensors of rank 0's GPU would arrive on that GPU.
        state = tensors.copied(self.optimizer.state_dict()) if communicator.writes else None
        self.optimizer.load_state_dict(communicator.broadcast(state))
