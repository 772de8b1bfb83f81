"""A training on one rank, from joining the ring to its end."""

import torch

from common.errors import CheckError, RinglakeError
from common.progress import log
from training import models, objectives, optimizers
from training.checkpoints import starting, store
from training.engine import preparation, running, stopping
from training.engine.ownership import Ownership, check_free
from training.engine.state import Launch
from training.parallel.communicator import Communicator, make_deterministic
from training.parallel.watchdog import Watchdog
from training.parallel.world import World, is_elastic, speaks
from training.silos.loading import order_of


def check(launch: Launch, ranks: int) -> None:
    """Raise UsageError if a training on so many ranks would not begin."""
    config, manifest = launch.config, launch.manifest
    order_of(manifest, config.method, config.train).check_world(World(0, ranks))
    check_free(launch.folder)
    preparation.check_run(launch.folder, launch.arguments)
    objective = objectives.build(config, manifest, torch.device("cpu"))
    features = models.features_of(objective.inputs, manifest, config.storage)
    model = models.build(config.model, features, objective.outputs)
    models.freeze(model, config.train.freeze or ())
    optimizers.groups_of(model, config.optimizer)
    going_on = launch.arguments.resume and store.has_any(launch.folder)
    if not going_on and (found := starting.find(config, manifest)) is not None:
        starting.take(model, config, found)
    if launch.arguments.resume:
        preparation.last_checkpoint(launch.config, launch.manifest, launch.folder, launch.arguments.new_data)


def train(launch: Launch) -> int:
    """Train to the end, or until a signal stops the training; return the exit status."""
    if speaks():
        # Joining the ring takes a few seconds.
        log(f"the run {launch.folder.name!r} trains on {launch.location}")
    make_deterministic(launch.config.train.threads)
    communicator = Communicator.start(launch.config.train.backend)
    try:
        with Watchdog(launch.config.train.watchdog, communicator.world.rank):
            if is_elastic():
                from training.engine import elastic  # it needs Horovod

                return elastic.train(launch)
            with Ownership(launch.folder) as ownership:
                ownership.take(communicator)
                return _train(launch, communicator)
    except communicator.backend.failure as error:
        raise CheckError(
            f"rank {communicator.world.rank} stopped because another rank did, whose message stands above"
        ) from error
    finally:
        communicator.stop()


def _train(launch: Launch, communicator: Communicator) -> int:
    config, manifest, run = launch.config, launch.manifest, launch.folder
    complete, found = preparation.begin(config, manifest, run, communicator, launch.arguments)
    if complete:
        return 0
    context, state = preparation.prepare(config, manifest, run, communicator, found)
    last = None if found is None else found[0]
    error: RinglakeError | None = None
    if communicator.writes:
        try:
            running.begin_run(context, launch.location, launch.given, last)
        except RinglakeError as failed:
            error = failed
    communicator.agree(error)
    stopping.defer()
    ending = running.run_loop(context, state, last, launch.arguments.stop_after)
    if ending == "finished":
        running.finish(context, state, launch.location)
    elif communicator.writes:
        asked = f"stopped after step {state.step:,} as asked; --resume goes on from there"
        log(stopping.told(state.step) if ending == "preempted" else asked)
    return stopping.STATUS if ending == "preempted" else 0
