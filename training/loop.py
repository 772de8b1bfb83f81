"""The training loop: batches in, steps, proofs, metrics and checkpoints out."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from schemas.config import Configuration
from schemas.errors import CheckError
from schemas.manifest import Manifest
from schemas.progress import Progress, say
from training import checkpoint, methods
from training.feed import Feed, LocalBatch
from training.metrics import Metrics, Proof
from training.ring import Ring
from training.validation import validate


@dataclass
class Place:
    """How far a training has come."""

    step: int = 0
    position: int = 0
    """Rows taken by all ranks together since the start."""
    proof: Proof = field(default_factory=Proof)
    """Of the epoch under way: this rank's part, after a resume on rank 0 that of all ranks so far."""
    seconds: float = 0.0
    """Spent in earlier processes of this run."""
    seconds_waited: float = 0.0


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
        """Rows of an epoch."""
        return self.manifest.splits["train"].rows

    @property
    def steps_of_an_epoch(self) -> int:
        return -(-self.rows // self.config.train.batch)

    @property
    def total_rows(self) -> int:
        return self.rows * self.config.train.epochs


class Loop:
    """Trains from a place to the end, or until it is told to stop."""

    def __init__(self, job: Job, place: Place, metrics: Metrics | None) -> None:
        """`metrics` is None on all ranks but the one that writes."""
        self.job, self.place, self.metrics = job, place, metrics
        self.began = self.last_logged = time.monotonic()
        self.waited_before = self.logged_waited = 0.0
        self.logged_position = place.position
        self.loss = torch.zeros(2, dtype=torch.float64)
        self.record: checkpoint.Record | None = None

    def train(self, stop_after: int | None = None) -> bool:
        """Runs the steps that are left, at most `stop_after`; True when the training is finished.

        Raises CheckError when an epoch did not read every row exactly once.
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
                if place.step % settings.checkpoint_every == 0 or stop:
                    self._checkpoint(feed, finished)
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
        result = job.method.step(batch, place.step)
        place.proof.add(batch.keys)
        place.step, place.position = place.step + 1, batch.position
        self.loss += torch.stack([result.loss_sum, result.weight_sum]).to("cpu", torch.float64)
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
            [*self.loss.tolist(), (waited - self.logged_waited) / interval]
        )
        rate = (place.position - self.logged_position) / interval
        mean = loss / weight if weight else 0.0
        if not math.isfinite(mean):
            # All ranks see the same mean, so they all end here.
            raise CheckError(
                f"the loss is {mean} at step {place.step:,}: lower optimizer.learning_rate, raise "
                "optimizer.warm_up or set train.clip_norm; the checkpoints before are kept"
            )
        self._shown = f", loss {mean:.3f}"
        if self.metrics is not None:
            self.metrics.write(
                place.step,
                "train",
                epoch=epoch + 1,
                position=place.position,
                loss=mean,
                learning_rate=result.learning_rate,
                gradient_norm=float(result.gradient_norm),
                samples_per_second=rate,
                input_wait_share=share / size,
            )
        self.loss.zero_()
        self.last_logged, self.logged_waited, self.logged_position = now, waited, place.position

    def _validate(self, epoch: int) -> None:
        job = self.job
        found = validate(job.model, job.manifest, "validation", job.config, job.ring, job.device)
        if self.metrics is not None:
            self.metrics.write(
                self.place.step,
                "validation",
                epoch=epoch + 1,
                position=self.place.position,
                loss=found.loss,
                accuracy=found.accuracy,
            )
            job.say(
                f"  epoch {epoch + 1}: every one of {job.rows:,} rows read exactly once; "
                f"validation loss {found.loss:.3f}, accuracy {found.accuracy:.3f}"
            )
        self.last_logged = time.monotonic()

    def _checkpoint(self, feed: Feed, finished: bool) -> None:
        """Called by all ranks: the sums over all of them go into the file that rank 0 writes."""
        job, place, world = self.job, self.place, self.job.ring.world
        proof = place.proof.over_all_ranks(job.ring)
        waited = job.ring.sum_floats([feed.seconds_waited])[0] / world.size
        error: OSError | None = None
        if job.ring.writes:
            state: checkpoint.State = {
                "format_version": checkpoint.FORMAT_VERSION,
                "manifest_root": job.manifest.manifest_root,
                "decisive": json.dumps(checkpoint.decisive(job.config), sort_keys=True),
                "step": place.step,
                "position": place.position,
                # As text: unsigned 64-bit numbers are more than what other readers of the file may take.
                "proof": [str(proof.count), str(proof.sums[0]), str(proof.sums[1])],
                "model": dict(job.model.state_dict()),
                "method": job.method.state(),
            }
            try:
                self.record = checkpoint.save(
                    job.run,
                    state,
                    lambda file, sha256: checkpoint.Record(
                        file=file,
                        sha256=sha256,
                        manifest_root=job.manifest.manifest_root,
                        configuration_sha256=job.config.sha256(),
                        step=place.step,
                        epoch=place.position // job.rows,
                        position=place.position,
                        finished=finished,
                        world_size=world.size,
                        seconds=place.seconds + time.monotonic() - self.began,
                        seconds_waited=place.seconds_waited + waited,
                    ),
                )
                checkpoint.prune(job.run, job.config.train.keep_checkpoints)
            except OSError as failed:
                error = failed
        job.ring.agree(error)

    def _carry_over(self, feed: Feed) -> None:
        self.place.seconds += time.monotonic() - self.began
        waited = self.job.ring.sum_floats([feed.seconds_waited])[0]
        self.place.seconds_waited += waited / self.job.ring.world.size
