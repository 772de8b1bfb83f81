"""The training loop: batches in; steps, proofs, metrics and checkpoints out."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from common.errors import CheckError
from common.progress import Progress
from training import methods
from training.checkpoints.record import CheckpointState
from training.checkpoints.saver import Saver
from training.engine import snapshot, stopping
from training.engine.state import TrainContext, TrainState
from training.engine.validation import facts_of, stale, validate
from training.input import class_balance
from training.input.augmentation import Augmentation
from training.input.batch_loader import LocalBatch
from training.input.proof import Proof
from training.parallel import watchdog
from training.silos.loading import Loader
from training.tracking import non_finite
from training.tracking.metrics import Metrics
from training.tracking.non_finite import NonFiniteBatch
from training.tracking.run_files import NON_FINITE_FILE

AnyLoader = Loader | methods.Batches
OnCommit = Callable[[CheckpointState, dict[str, Any], bool], None]
"""Callback for the training's state, which refers to live weights, and the facts of its checkpoint record."""


class Loop:
    """Training from a state until the end, until validation stops improving, or until told to stop."""

    def __init__(
        self,
        context: TrainContext,
        state: TrainState,
        metrics: Metrics | None,
        saver: Saver | None,
        commit: OnCommit | None = None,
    ) -> None:
        """Set up the loop; `metrics` and `saver` are None on all ranks but the one that writes."""
        self.context, self.state, self.metrics, self.saver, self.commit = (
            context,
            state,
            metrics,
            saver,
            commit,
        )
        self.augmentation = Augmentation(
            context.config.augment, context.config.train.seed, context.manifest, context.device
        )
        self.own: methods.Batches | None = None
        """Batches that the method chooses itself; None: every row in its order."""
        self.shown = ""
        """Text about the loss for the progress bar."""
        self.skipped_in_a_row = 0
        self.preempted = False
        """True once any rank was asked to stop; the same on all ranks."""
        self.began = self.last_logged = self.last_saved = time.monotonic()
        self.logged_waited = 0.0
        self.logged_position = state.position

    @property
    def finished(self) -> bool:
        """True when all epochs are done or validation has stopped improving; the same on all ranks."""
        context, state, patience = self.context, self.state, self.context.config.train.patience
        if state.position == context.total_rows:
            return True
        return (
            patience is not None
            and state.validated
            and stale(context.objective, state.validation) >= patience
        )

    def train(self, stop_after: int | None = None) -> bool:
        """Run the remaining steps, at most `stop_after`, until a rank is preempted; return True when the training is
        finished.

        Raises CheckError if an epoch did not read every row exactly as often as the manifest says.
        """
        context, state, settings = self.context, self.state, self.context.config.train
        if self.finished:
            return True
        last_step = None if stop_after is None else state.step + stop_after
        left = context.total_rows - state.position
        self.own = context.method.batches(state.position)
        with self.own or context.loader(
            settings.epochs, state.position, pinned=context.device.type == "cuda"
        ) as loader:
            bar = Progress("training", left, "rows") if context.communicator.writes else None
            for batch in loader:
                flags = context.communicator.begin_any([stopping.requested() is not None, self._late()])
                self._step(batch, loader)
                self.preempted, late = flags()
                stop = self.finished or self.preempted or state.step == last_step
                due = state.step % settings.checkpoint_every == 0 or state.validated or stop or late
                if due or (self.commit is not None and state.step % settings.commit_every == 0):
                    self._save(loader, due, stop)
                if bar is not None:
                    bar.update(batch.global_rows, f"epoch {batch.epoch + 1}/{settings.epochs}{self.shown}")
                if stop:
                    break
            if bar is not None:
                bar.close()
            self._carry_over(loader)
        return self.finished

    def _late(self) -> bool:
        """Return True on the rank that writes if the last checkpoint is too old."""
        minutes = self.context.config.train.checkpoint_minutes
        if minutes is None or not self.context.communicator.writes:
            return False
        return time.monotonic() - self.last_saved >= 60 * minutes

    def _step(self, batch: LocalBatch, loader: AnyLoader) -> None:
        context, state, settings = self.context, self.state, self.context.config.train
        scheduled = state.step - state.origin["step"]
        result = context.method.step(self.augmentation(batch), state.step, scheduled)
        watchdog.step()
        if self.own is None:
            state.proof.add(batch.keys)
        state.step, state.position = state.step + 1, batch.position
        if math.isfinite(float(result.gradient_norm)):
            self.skipped_in_a_row = 0
            if not context.method.hides_batches:
                sums = torch.stack([result.loss_sum, result.weight_sum]).to("cpu", torch.float64)
                self._check_weights(batch, float(sums[1]))
                state.loss += sums
        elif result.overflow:
            state.overflows += 1
        else:
            self._non_finite(batch)
        ends_epoch = state.position % context.rows == 0
        if state.step % settings.log_every == 0 or ends_epoch:
            self._log(result, batch.epoch, loader)
        if ends_epoch:
            if self.own is not None:
                self.own.check(f"epoch {batch.epoch + 1}")
            else:
                whole = state.proof.over_all_ranks(context.communicator)
                whole.check(context.manifest.splits["train"], f"epoch {batch.epoch + 1}")
                state.proof = Proof()
            if context.manifest.splits["validation"].rows and context.method.settled:
                self._validate(batch.epoch)

    def _check_weights(self, batch: LocalBatch, weight: float) -> None:
        """Raise CheckError if an objective that is not `weighted` has weights: the ranks would not share them."""
        if not self.context.objective.weighted and weight != batch.rows:
            raise CheckError(
                f"the weights of {batch.rows:,} rows sum to {weight:g}, but the objective "
                f"{self.context.config.objective.kind!r} is not weighted: set `weighted = True` in its class"
            )

    def _log(self, result: methods.StepResult, epoch: int, loader: AnyLoader) -> None:
        """Log the training metrics; losses and rates are means since the last entry, over all ranks.

        A method that hides its batches has neither loss nor norm.
        """
        now, waited = time.monotonic(), loader.seconds_waited
        size, state = self.context.communicator.world.size, self.state
        interval = max(now - self.last_logged, 1e-9)
        loss, weight, share = self.context.communicator.sum_floats(
            [*self.state.loss.tolist(), (waited - self.logged_waited) / interval]
        )
        rate = (state.position - self.logged_position) / interval
        mean = loss / weight if weight else math.nan  # every batch since the last entry was skipped
        if weight and not math.isfinite(mean):
            # All ranks see the same mean, so they all stop here.
            raise CheckError(
                f"the loss is {mean} at step {state.step:,} though the gradient is finite: lower "
                "optimizer.learning_rate or set train.clip_norm; the checkpoints before are kept"
            )
        hidden = self.context.method.hides_batches
        self.shown = "" if hidden else f", loss {mean:.3f}"
        if self.metrics is not None:
            self.metrics.write(
                state.step,
                "train",
                epoch=epoch + 1,
                position=state.position,
                learning_rate=result.learning_rate,
                **({} if hidden else {"loss": mean, "gradient_norm": float(result.gradient_norm)}),
                samples_per_second=rate,
                input_wait_share=share / size,
            )
        self.state.loss.zero_()
        self.last_logged, self.logged_waited, self.logged_position = now, waited, state.position

    def _validate(self, epoch: int) -> None:
        context = self.context
        found = validate(
            context.method.judged,
            context.objective,
            context.manifest,
            "validation",
            context.config,
            context.communicator,
            context.method.validation_terms,
        )
        self.state.validation.append(
            {"step": self.state.step, "epoch": epoch + 1, "loss": found.loss, **found.metrics}
        )
        if self.metrics is not None:
            self.metrics.write(
                self.state.step,
                "validation",
                epoch=epoch + 1,
                position=self.state.position,
                loss=found.loss,
                **found.metrics,
            )
            metrics = "".join(f", {name} {value:.3f}" for name, value in found.metrics.items())
            every = class_balance.described(context.manifest.splits["train"])
            context.log(
                f"  epoch {epoch + 1}: {every if self.own is None else self.own.described}; "
                f"validation loss {found.loss:.3f}{metrics}"
            )
            if self.finished and self.state.position < context.total_rows:
                context.log(
                    f"stops early: no better {context.objective.criterion} in the last "
                    f"{stale(context.objective, self.state.validation)} validations"
                )
        self.last_logged = time.monotonic()

    def _non_finite(self, batch: LocalBatch) -> None:
        """Record a non-finite batch, and stop if so configured, on all ranks: they see the same gradient norm."""
        context, state = self.context, self.state
        state.skipped += 1
        self.skipped_in_a_row += 1
        first = (state.position - batch.global_rows) % context.rows
        records = ([], []) if context.method.hides_batches else self._records(batch, first)
        found = NonFiniteBatch(state.step, batch.epoch + 1, first, *records)
        if context.communicator.writes:
            non_finite.write(context.run, found)
        where = f"step {state.step:,} (record ids in {context.run / NON_FINITE_FILE})"
        if context.config.train.on_non_finite == "stop":
            raise CheckError(
                f"the loss or the gradient is not finite at {where}: lower optimizer.learning_rate, raise "
                "optimizer.warm_up, set train.clip_norm, look at these records, or leave such batches out with "
                'train.on_non_finite = "skip"; the checkpoints before are kept'
            )
        if context.communicator.writes:
            context.log(f"warning: the batch of {where} is skipped, its loss or gradient is not finite")
        if self.skipped_in_a_row >= context.config.train.max_skipped:
            raise CheckError(
                f"{self.skipped_in_a_row:,} batches in a row were skipped up to {where}, as many as train.max_skipped "
                "allows, and the weights stand still: lower optimizer.learning_rate, raise optimizer.warm_up, or set "
                "train.clip_norm; the checkpoints before are kept"
            )

    def _records(self, batch: LocalBatch, first: int) -> tuple[list[str], list[list[dict[str, Any]]]]:
        """Return the ids of all rows of a global batch, which begins at `first` in its epoch, and their documents.

        Called by all ranks. They are read again, because training does not read ids otherwise.
        """
        context, mine, documents = self.context, list[str](), list[list[dict[str, Any]]]()
        with context.loader(batch.epoch + 1, batch.epoch * context.rows + first, with_ids=True) as loader:
            again = next(loader)
            if again.record_ids is not None:
                mine, documents = [str(one) for one in again.record_ids], again.shown_documents()
        parts = context.communicator.gather((mine, documents))
        return [one for part in parts for one in part[0]], [one for part in parts for one in part[1]]

    def _save(self, loader: AnyLoader, checkpoint_due: bool, ends: bool) -> None:
        """Commit, and save a checkpoint on rank 0; called by all ranks, because both contain sums over them.

        `ends` if no step follows.
        """
        context, state, world = self.context, self.state, self.context.communicator.world
        whole = snapshot.over_all_ranks(state, context.communicator)
        context.method.collect()
        waited = context.communicator.sum_floats([loader.seconds_waited])[0] / world.size
        if self.saver is None and self.commit is None:
            return
        facts = {
            "configuration_sha256": context.config.sha256(),
            "epoch": state.position // context.rows,
            "finished": self.finished,
            "started_from": state.origin.get("started_from"),
            "world_size": world.size,
            **facts_of(context.objective, state.validation[-1] if state.validated else None),
            "seconds": state.seconds + time.monotonic() - self.began,
            "seconds_waited": state.seconds_waited + waited,
        }
        saved = snapshot.state_of(context, state, whole)
        if self.saver is not None and checkpoint_due:
            self.saver.save(saved, facts)
            self.last_saved = time.monotonic()
        if self.commit is not None:
            self.commit(saved, facts, ends)

    def _carry_over(self, loader: AnyLoader) -> None:
        self.state.seconds += time.monotonic() - self.began
        waited = self.context.communicator.sum_floats([loader.seconds_waited])[0]
        self.state.seconds_waited += waited / self.context.communicator.world.size
