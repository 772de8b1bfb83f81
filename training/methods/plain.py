"""Plain training: cross-entropy over global batches, one update from the gradients of all ranks a step."""

from typing import Any

import horovod.torch as hvd
import torch
from torch.nn import functional

from training import optimizers
from training.checkpoints import store
from training.input.batch_loader import LocalBatch
from training.methods import Setting, StepResult
from training.parallel import gradients
from training.parallel.communicator import seed_of, wait_for


class Method:
    """See `training.methods.Method`.

    Each rank's loss is the sum over its rows, divided by the rows (or the weights) of the *global* batch, and the
    ranks' gradients are summed: so the update is that of one process on the whole batch, however the rows are spread.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting, self.model = setting, setting.model
        self.optimizer = optimizers.build(self.model, setting.optimizer)
        self.exchange = gradients.build(setting.train, self.model, setting.ring, setting.device)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]

    def step(self, batch: LocalBatch, step: int, scheduled: int | None = None) -> StepResult:
        setting, rank = self.setting, self.setting.ring.world.rank
        assert batch.labels is not None
        # No random state of any rank has to be saved: it follows from seed, step and rank.
        torch.manual_seed(seed_of(setting.train.seed, step, rank))
        of_schedule = step if scheduled is None else scheduled
        rate = optimizers.learning_rate(setting.optimizer, of_schedule, setting.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        features = {k: v.to(setting.device, non_blocking=True) for k, v in batch.features.items()}
        labels = batch.labels.to(setting.device, non_blocking=True)
        weights = None if setting.class_weights is None else setting.class_weights[labels]
        weight_sum = (
            torch.tensor(float(batch.rows), device=setting.device) if weights is None else weights.sum()
        )
        # In float64, so that Horovod never fuses it with the gradients, whose order of summation would change.
        total = None
        if weights is not None and setting.ring.world.size > 1:
            total = hvd.allreduce_async(weight_sum.double(), op=hvd.Sum, name="weights")

        self.model.train()
        self.exchange.begin()
        loss_sum, loss = torch.zeros((), device=setting.device), None
        if batch.rows:
            losses = functional.cross_entropy(self.model(features), labels, reduction="none")
            loss_sum = losses.sum() if weights is None else (losses * weights).sum()
            # Times 1, or times NaN where the loss is not finite: then neither is the gradient, on any rank.
            loss = loss_sum / batch.global_rows * (1 + 0 * loss_sum.detach())
        self.exchange.backward(loss)
        if weights is not None:
            whole = weight_sum
            if total is not None:
                wait_for(total)
                whole = hvd.synchronize(total).float()
            factor = batch.global_rows / whole
            torch._foreach_mul_([p.grad for p in self.parameters if p.grad is not None], factor)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        # The norm is that of the global gradient: all ranks see the same, and no weight takes up what is not finite.
        # Nor is it clipped, which would spread it over buffers that the exchange keeps from step to step.
        if torch.isfinite(norm):
            if (limit := setting.train.clip_norm) is not None:
                torch.nn.utils.clip_grads_with_norm_(self.parameters, limit, norm)
            self.optimizer.step()
        return StepResult(loss_sum.detach(), weight_sum, norm, rate)

    def state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        configured = [{k: v for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, values in zip(self.optimizer.param_groups, configured, strict=True):
            group.update(values)  # they may differ where a training goes on with other data

    def broadcast(self) -> None:
        if self.setting.ring.world.size == 1:
            return
        hvd.broadcast_parameters(self.model.state_dict(), root_rank=0)
        # Horovod's own broadcast of a fresh optimizer's state makes a step with zero gradients, in which AdamW's decay
        # changes the weights; sending the state as it is does not. Tensors of rank 0's GPU would arrive on that GPU.
        writes = self.setting.ring.writes
        state = store.copied(self.optimizer.state_dict()) if writes else None
        self.optimizer.load_state_dict(self.setting.ring.broadcast(state))
