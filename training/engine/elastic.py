"""Elastic training: ranks may die, and others may come, and the training goes on from the last commit.

`horovodrun --host-discovery-script` launches it. Every `train.commit_every` steps, all ranks keep in memory what a
checkpoint would hold. When the ring breaks, or grows, the ranks that are there form a new one, take over the newest
commit among them, and build model, method and loader anew from it, as `--resume` does from a file. The order of the
rows does not depend on the number of ranks, so an epoch still takes every row exactly once.

A rank that finds damaged data, or whatever else would be found again after each new start, leaves a message in the
run's folder, and the others end as well instead of going on. That folder has to be one that all hosts share.
"""

import argparse
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from horovod.common.elastic import State, run_fn
from horovod.common.exceptions import HostsUpdatedInterrupt

from common.errors import CheckError, RinglakeError, UsageError
from common.progress import log
from schemas.config import Configuration
from schemas.manifest import Manifest
from training.checkpoints import store, tensors
from training.engine import preparation, running, survival
from training.parallel import watchdog
from training.parallel.communicator import Communicator


@dataclass(frozen=True)
class Run:
    """What a process of an elastic training was started with."""

    config: Configuration
    manifest: Manifest
    location: str
    folder: Path
    arguments: argparse.Namespace
    given: list[str]


@dataclass(frozen=True)
class Commit:
    """A state as a checkpoint holds it, `tensors.copied`, and the facts that its record would have beside it."""

    state: store.State
    facts: dict[str, Any]

    def record(self) -> store.Record:
        """As that of a checkpoint, but there is no file yet that it could have the hash of."""
        return store.Record.of(self.state, "", None, self.facts)


def is_launched() -> bool:
    """True in a process that horovodrun started for elastic training."""
    return os.environ.get("HOROVOD_ELASTIC") == "1"


class TrainingState(State):  # type: ignore[misc]
    """Horovod's view of the training: it commits, goes back to the last commit, and shares it."""

    def __init__(self, run: Run) -> None:
        super().__init__(bcast_object=self._share, get_rank=lambda: Communicator.joined().world.rank)
        self.run = run
        self.last: Commit | None = None
        self.broken: float | None = None
        """When the ring broke, until the training goes on."""

    @staticmethod
    def _share(value: Any) -> Any:
        return Communicator.joined().broadcast(value)

    def take(self, state: store.State, facts: dict[str, Any]) -> None:
        """Commits; called by all ranks. Raises HostsUpdatedInterrupt on all of them when hosts have come or gone."""
        self.last = Commit(tensors.copied(state), facts)
        if not facts["finished"]:
            self.check_host_updates()

    def check_host_updates(self) -> None:
        """As Horovod's, but all ranks always share their state afterwards.

        It leaves that out when hosts have only gone, and then waits for ever if another has come meanwhile.
        """
        try:
            super().check_host_updates()
        except HostsUpdatedInterrupt as interrupt:
            self.broken = time.monotonic()
            raise HostsUpdatedInterrupt(skip_sync=False) from interrupt

    def save(self) -> None:
        """Nothing: `take` has what the loop hands over."""

    def restore(self) -> None:
        """After the ring broke. Raises CheckError where that was because a rank gave up; else makes the last commit a
        checkpoint, since nobody knows how many are left to go on.
        """
        self.broken = time.monotonic()
        if (reason := survival.left_message(self.run.folder)) is not None:
            raise CheckError(f"another rank gave up: {reason}")
        if self.last is not None:
            log(f"the ring broke; this rank has the state of step {self.last.state['step']:,}")
            survival.keep_on_disk(self.run.folder, self.last.state, self.last.facts)

    def sync(self) -> None:
        """All ranks take over the newest commit of any."""
        communicator = Communicator.joined()
        steps = communicator.gather(-1 if self.last is None else self.last.state["step"])
        newest = max(steps)
        self.last = communicator.broadcast_from(steps.index(newest), self.last) if newest >= 0 else None


def train(run: Run) -> int:
    """Trains until the end, in whichever rings there are; returns the exit status.

    Called after `Communicator.start`.
    """
    if run.arguments.stop_after is not None:
        raise UsageError("--stop-after does not go with elastic training")
    state = TrainingState(run)
    try:
        status: int = run_fn(_in_a_world, _reset)(state)
    except RinglakeError as error:
        if state.last is not None:
            survival.leave_message(run.folder, str(error))
        raise
    return status


def _reset() -> None:
    """Leaves the ring and joins the next, as soon as there are enough ranks for one."""
    Communicator.stop()
    # The launcher says how long to wait for other hosts (--elastic-timeout), and ends this process after that.
    with watchdog.waiting(at_most=math.inf):
        Communicator.start()


def _in_a_world(state: TrainingState) -> int:
    """The training in one ring, from the last commit on."""
    run, communicator = state.run, Communicator.joined()
    if state.last is None:
        complete, found = preparation.begin(run.config, run.manifest, run.folder, communicator, run.arguments)
        if complete:
            return 0
    else:
        found = state.last.record(), state.last.state
    context, progress = preparation.prepare(run.config, run.manifest, run.folder, communicator, found)
    last = None
    error: RinglakeError | OSError | None = None
    if communicator.writes:
        try:
            if state.last is None:
                last = None if found is None else found[0]
                running.begin_run(context, run.location, run.given, last)
                survival.forget(run.folder)
            else:
                last = survival.go_on_from(run.folder, progress.step)
        except OSError as failed:
            error = failed
    communicator.agree(error)
    if communicator.writes and state.broken is not None:
        log(
            f"goes on with {communicator.world.size} rank(s) from step {progress.step:,}, "
            f"{time.monotonic() - state.broken:.1f} s after the ring changed"
        )
    state.broken = None
    running.run_loop(context, progress, last, None, state.take)
    running.finish(context, progress, run.location)
    return 0
