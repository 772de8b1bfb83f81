"""Elastic training: ranks may die and others may join, and training continues from the last commit.

`horovodrun --host-discovery-script` launches it. Every `train.commit_every` steps, all ranks keep the contents of a
checkpoint in memory. When the ring breaks or grows, the remaining ranks form a new one, adopt the newest commit among
them, and rebuild model, method and loader from it, as `--resume` does from a file. The order of the rows does not
depend on the number of ranks, so an epoch still takes every row exactly once.

A rank that finds an error which a restart would only repeat, such as damaged data, leaves a message in the run's
folder, and the other ranks stop too. All hosts have to share that folder.
"""

import math
import time
from dataclasses import dataclass
from typing import Any

from horovod.common.elastic import State, run_fn
from horovod.common.exceptions import HostsUpdatedInterrupt

from common.errors import CheckError, RinglakeError, UsageError
from common.progress import log
from training.checkpoints import tensors
from training.checkpoints.record import CheckpointState, Record
from training.engine import preparation, running, stopping, survival
from training.engine.ownership import Ownership
from training.engine.state import Launch
from training.parallel import watchdog
from training.parallel.communicator import Communicator
from training.parallel.horovod_backend import HorovodBackend


@dataclass(frozen=True)
class Committed:
    """A state as a checkpoint holds it, made by `tensors.copied`, and the facts for its record."""

    state: CheckpointState
    facts: dict[str, Any]

    def record(self) -> Record:
        """Return a record like a checkpoint's, but without the hash of a file, since there is none yet."""
        return Record.of(self.state, "", None, self.facts)


class TrainingState(State):  # type: ignore[misc]
    """Horovod's view of the training: it commits, restores the last commit, and shares it."""

    def __init__(self, run: Launch, ownership: Ownership) -> None:
        super().__init__(bcast_object=self._share, get_rank=lambda: HorovodBackend().world.rank)
        self.run, self.ownership = run, ownership
        self.last: Committed | None = None
        self.broken: float | None = None
        """Time at which the ring broke; None once training continues."""

    @staticmethod
    def _share(value: Any) -> Any:
        return Communicator(HorovodBackend()).broadcast(value)

    def take(self, state: CheckpointState, facts: dict[str, Any], ends: bool) -> None:
        """Commit; called by all ranks. Raises HostsUpdatedInterrupt on all when hosts have joined or left.

        Where the training `ends` with this step, changed hosts are of no concern.
        """
        self.last = Committed(tensors.copied(state), facts)
        if not ends:
            self.check_host_updates()

    def check_host_updates(self) -> None:
        """Check as Horovod does, but always make all ranks share their state afterwards.

        Horovod skips that when hosts have only left, and then waits forever if another has joined meanwhile.
        """
        try:
            super().check_host_updates()
        except HostsUpdatedInterrupt as interrupt:
            self.broken = time.monotonic()
            raise HostsUpdatedInterrupt(skip_sync=False) from interrupt

    def save(self) -> None:
        """Do nothing: `take` has what the loop hands over."""

    def restore(self) -> None:
        """Recover from a broken ring: make the last commit a checkpoint, since nobody knows how many ranks remain.

        Raises CheckError if the ring broke because a rank gave up, Stopped if this one was asked to stop meanwhile.
        """
        self.broken = time.monotonic()
        if (reason := survival.left_message(self.run.folder)) is not None:
            raise CheckError(f"another rank gave up: {reason}")
        if self.last is not None:
            log(f"the ring broke; this rank has the state of step {self.last.state['step']:,}")
            survival.keep_on_disk(self.run.folder, self.last.state, self.last.facts)
        if stopping.requested() is not None:
            raise stopping.Stopped(
                "stopped while the ring was broken: --resume goes on from the last checkpoint"
            )

    def sync(self) -> None:
        """Make all ranks adopt the newest commit of any rank."""
        communicator = Communicator(HorovodBackend())
        steps = communicator.gather(-1 if self.last is None else self.last.state["step"])
        newest = max(steps)
        self.last = communicator.broadcast_from(steps.index(newest), self.last) if newest >= 0 else None


def train(run: Launch) -> int:
    """Train to the end, in whatever rings form; return the exit status.

    Call it in a ring.
    """
    if run.arguments.stop_after is not None:
        raise UsageError("--stop-after does not go with elastic training")
    with Ownership(run.folder) as ownership:
        state = TrainingState(run, ownership)
        try:
            status: int = run_fn(_in_a_world, _reset)(state)
        except RinglakeError as error:
            if state.last is not None:
                survival.leave_message(run.folder, str(error))
            raise
        return status


def _reset() -> None:
    """Leave the ring and join the next, as soon as there are enough ranks for one."""
    HorovodBackend.leave()
    # The launcher limits the wait for other hosts (--elastic-timeout), and then ends this process.
    with watchdog.waiting(at_most=math.inf):
        HorovodBackend.start()


def _in_a_world(state: TrainingState) -> int:
    """Train in one ring, from the last commit on."""
    run, communicator = state.run, Communicator(HorovodBackend())
    state.ownership.take(communicator)
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
        except (RinglakeError, OSError) as failed:
            error = failed
    communicator.agree(error)
    if communicator.writes and state.broken is not None:
        log(
            f"goes on with {communicator.world.size} rank(s) from step {progress.step:,}, "
            f"{time.monotonic() - state.broken:.1f} s after the ring changed"
        )
    state.broken = None
    stopping.defer()
    if running.run_loop(context, progress, last, None, state.take) == "preempted":
        if communicator.writes:
            log(stopping.told(progress.step))
        return stopping.STATUS
    running.finish(context, progress, run.location)
    return 0
