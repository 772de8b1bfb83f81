"""The training loop: batches in, steps, proofs, metrics and checkpoints out."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from common.errors import CheckError
from common.progress import Progress, say
from schemas.config import Configuration
from schemas.manifest import Manifest
from training import methods
from training.checkpoints import store
from training.checkpoints.saver import Saver
from training.engine import non_finite, snapshot
from training.engine.validation import validate
from training.input import class_balance
from training.input.batch_loader import Feed, LocalBatch
from training.parallel import watchdog
from training.parallel.communicator import Ring
from training.tracking.metrics import Metrics, Proof


@dataclass
class Place:
    """How far a training has come."""

    step: int = 0
    position: int = 0
    """Rows taken by all ranks together since the start."""
    proof: Proof = field(default_factory=Proof)
    """Of the epoch under way: this rank's part, after a resume on rank 0 that of all ranks so far."""
    loss: torch.Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.float64))
    """Sums of losses and weights since the last entry of the metrics; shared out like the proof."""
    validation: list[dict[str, float]] = field(default_factory=list)
    """By completed epoch: step, epoch, loss, accuracy."""
    skipped: int = 0
    """Batches without a finite gradient."""
    origin: dict[str, Any] = field(default_factory=lambda: {"step": 0})
    """Where a training on other data was taken up: its last step, and its manifest_root and chain."""
    seconds: float = 0.0
    """Spent in earlier processes of this run."""
    seconds_waited: float = 0.0
    seconds_held: float = 0.0
    """That this process stood still for checkpoints."""
    failed_saves: int = 0

    @property
    def validated(self) -> bool:
        """Whether a validation came with the last step."""
        return bool(self.validation) and self.validation[-1]["step"] == self.step


@dataclass(frozen=True)
class Job:
    """All that the loop works with."""

    config: Configuration
    manifest: Manifest
    run: Path
    ring: Ring
    device: torch.device
    model: torch.nn.Module
    method: methods.Method
    say: Callable[[str], None] = say

    @property
    def rows(self) -> int:
        """Rows of an epoch, each as often as the class balance takes it."""
        return self.manifest.splits["train"].rows_taken

    @property
    def steps_of_an_epoch(self) -> int:
        return -(-self.rows // self.config.train.batch)

    @property
    def total_rows(self) -> int:
        return self.rows * self.config.train.epochs


Commit = Callable[[store.State, dict[str, Any]], None]
"""Takes the state of the training, which refers to live weights, and what a checkpoint's record says beside it."""


class Loop:
    """Trains from a place to the end, or until it is told to stop."""

    def __init__(
        self,
        job: Job,
        place: Place,
        metrics: Metrics | None,
        saver: Saver | None,
        commit: Commit | None = None,
    ) -> None:
        """`metrics` and `saver` are None on all ranks but the one that writes."""
        self.job, self.place, self.metrics, self.saver, self.commit = job, place, metrics, saver, commit
        self.began = self.last_logged = time.monotonic()
        self.logged_waited = 0.0
        self.logged_position = place.position

    def train(self, stop_after: int | None = None) -> bool:
        """Runs the steps that are left, at most `stop_after`; True when the training is finished.

        Raises CheckError when an epoch did not read every row exactly as often as the manifest says.
        """
        job, place, settings = self.job, self.place, self.job.config.train
        last_step = None if stop_after is None else place.step + stop_after
        left = job.total_rows - place.position
        with Feed(
            job.manifest,
            "train",
            settings,
            job.ring.world,
            epochs=settings.epochs,
            position=place.position,
            options=job.config.storage,
            pinned=job.device.type == "cuda",
        ) as feed:
            bar = Progress("training", left, "rows") if job.ring.writes else None
            for batch in feed:
                self._step(batch, feed)
                finished = place.position == job.total_rows
                stop = finished or place.step == last_step
                due = place.step % settings.checkpoint_every == 0 or place.validated or stop
                if due or (self.commit is not None and place.step % settings.commit_every == 0):
                    self._save(feed, finished, due)
                if bar is not None:
                    bar.update(batch.global_rows, f"epoch {batch.epoch + 1}/{settings.epochs}{self._shown}")
                if stop:
                    break
            if bar is not None:
                bar.close()
            self._carry_over(feed)
        return place.position == job.total_rows

    _shown = ""

    def _step(self, batch: LocalBatch, feed: Feed) -> None:
        job, place, settings = self.job, self.place, self.job.config.train
        result = job.method.step(batch, place.step, place.step - place.origin["step"])
        watchdog.step()
        place.proof.add(batch.keys)
        place.step, place.position = place.step + 1, batch.position
        if math.isfinite(float(result.gradient_norm)):
            place.loss += torch.stack([result.loss_sum, result.weight_sum]).to("cpu", torch.float64)
        else:
            self._non_finite(batch)
        ends_epoch = place.position % job.rows == 0
        if place.step % settings.log_every == 0 or ends_epoch:
            self._log(result, batch.epoch, feed)
        if ends_epoch:
            whole = place.proof.over_all_ranks(job.ring)
            whole.check(job.manifest.splits["train"], f"epoch {batch.epoch + 1}")
            place.proof = Proof()
            if job.manifest.splits["validation"].rows:
                self._validate(batch.epoch)

    def _log(self, result: methods.StepResult, epoch: int, feed: Feed) -> None:
        """Losses are means since the last entry, over all ranks; so are rates."""
        now, waited = time.monotonic(), feed.seconds_waited
        size, place = self.job.ring.world.size, self.place
        interval = max(now - self.last_logged, 1e-9)
        loss, weight, share = self.job.ring.sum_floats(
            [*self.place.loss.tolist(), (waited - self.logged_waited) / interval]
        )
        rate = (place.position - self.logged_position) / interval
        mean = loss / weight if weight else math.nan  # every batch since the last entry was skipped
        if weight and not math.isfinite(mean):
            # All ranks see the same mean, so they all end here.
            raise CheckError(
                f"the loss is {mean} at step {place.step:,} though the gradient is finite: lower "
                "optimizer.learning_rate or set train.clip_norm; the checkpoints before are kept"
            )
        self._shown = f", loss {mean:.3f}"
        if self.metrics is not None:
            self.metrics.write(
                place.step,
                "train",
                epoch=epoch + 1,
                position=place.position,
                loss=mean if math.isfinite(mean) else None,
                learning_rate=result.learning_rate,
                gradient_norm=float(result.gradient_norm),
                samples_per_second=rate,
                input_wait_share=share / size,
            )
        self.place.loss.zero_()
        self.last_logged, self.logged_waited, self.logged_position = now, waited, place.position

    def _validate(self, epoch: int) -> None:
        job = self.job
        found = validate(job.model, job.manifest, "validation", job.config, job.ring, job.device)
        self.place.validation.append(
            {"step": self.place.step, "epoch": epoch + 1, "loss": found.loss, "accuracy": found.accuracy}
        )
        if self.metrics is not None:
            self.metrics.write(
                self.place.step,
                "validation",
                epoch=epoch + 1,
                position=self.place.position,
                loss=found.loss if math.isfinite(found.loss) else None,
                accuracy=found.accuracy,
            )
            job.say(
                f"  epoch {epoch + 1}: {class_balance.described(job.manifest.splits['train'])}; "
                f"validation loss {found.loss:.3f}, accuracy {found.accuracy:.3f}"
            )
        self.last_logged = time.monotonic()

    def _non_finite(self, batch: LocalBatch) -> None:
        """All ranks see the same gradient norm, so they all come here, and end together where they are to end."""
        job, place = self.job, self.place
        place.skipped += 1
        first = (place.position - batch.global_rows) % job.rows
        found = non_finite.Batch(
            place.step,
            batch.epoch + 1,
            first,
            non_finite.record_ids(batch, first, job.manifest, job.config, job.ring),
        )
        if job.ring.writes:
            non_finite.write(job.run, found)
        where = f"step {place.step:,} (record ids in {job.run / non_finite.NAME})"
        if job.config.train.on_non_finite == "stop":
            raise CheckError(
                f"the loss or the gradient is not finite at {where}: lower optimizer.learning_rate, raise "
                "optimizer.warm_up, set train.clip_norm, look at these records, or leave such batches out with "
                'train.on_non_finite = "skip"; the checkpoints before are kept'
            )
        if job.ring.writes:
            job.say(f"warning: the batch of {where} is skipped, its loss or gradient is not finite")

    def _save(self, feed: Feed, finished: bool, checkpoint_due: bool) -> None:
        """Called by all ranks: the sums over all of them go into what is committed, and the file of rank 0."""
        job, place, world = self.job, self.place, self.job.ring.world
        whole = snapshot.over_all_ranks(place, job.ring)
        waited = job.ring.sum_floats([feed.seconds_waited])[0] / world.size
        if self.saver is None and self.commit is None:
            return
        facts = {
            "configuration_sha256": job.config.sha256(),
            "epoch": place.position // job.rows,
            "finished": finished,
            "world_size": world.size,
            "validation_loss": place.validation[-1]["loss"] if place.validated else None,
            "seconds": place.seconds + time.monotonic() - self.began,
            "seconds_waited": place.seconds_waited + waited,
        }
        state = snapshot.state_of(job, place, whole)
        if self.saver is not None and checkpoint_due:
            self.saver.save(state, facts)
        if self.commit is not None:
            self.commit(state, facts)

    def _carry_over(self, feed: Feed) -> None:
        self.place.seconds += time.monotonic() - self.began
        waited = self.job.ring.sum_floats([feed.seconds_waited])[0]
        self.place.seconds_waited += waited / self.job.ring.world.size
