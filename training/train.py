"""Train on a published version: `horovodrun -np N python -m training.train --config FILE --run NAME`.

Without horovodrun, a single process trains.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common import command
from common.errors import CheckError, UsageError
from common.progress import log
from schemas.config import Configuration, load
from schemas.manifest import Manifest, load_with_shards, resolve
from schemas.runs import check_dataset
from schemas.tables import Layout
from training.tracking.run_files import run_folder

if TYPE_CHECKING:
    from training.parallel.communicator import Communicator


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    flags = command.configuration_parser("python -m training.train", __doc__)
    flags.add_argument("--run", required=True, metavar="NAME", help="the folder below train.runs to write to")
    command.add_manifest_flags(flags, "latest", "a manifest, or latest (the default)")
    command.add_root_flag(flags)
    flags.add_argument("--resume", action="store_true", help="go on from the run's last good checkpoint")
    flags.add_argument(
        "--new-data",
        action="store_true",
        help="with --resume: go on from weights and optimiser state that were trained on another manifest; epochs and "
        "the learning rate's schedule begin anew",
    )
    flags.add_argument(
        "--verify",
        choices=["full", "cached", "off"],
        default="full",
        help="re-hash the shards before the first step: all of them (the default), those changed since, or none",
    )
    flags.add_argument(
        "--check", action="store_true", help="only validate configuration, manifest and run, then end"
    )
    flags.add_argument(
        "--ranks",
        type=int,
        default=1,
        metavar="N",
        help="with --check: how many processes are to share the data at most",
    )
    flags.add_argument(
        "--stop-after",
        type=int,
        metavar="STEPS",
        help="write a checkpoint after so many steps and end; --resume goes on from there",
    )
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = parser().parse_args(given)
    if arguments.stop_after is not None and arguments.stop_after < 1:
        raise UsageError(f"--stop-after {arguments.stop_after}: give at least 1 step")
    if arguments.new_data and not arguments.resume:
        raise UsageError("--new-data says from which data --resume may go on to others: give both")
    config = load(arguments.config, command.overrides(arguments))

    # These take seconds (torch, Horovod), which a mistake in the configuration is not worth.
    from horovod.common.exceptions import HorovodInternalError

    from training.engine import elastic, preparation
    from training.input.batch_loader import split_order
    from training.parallel.communicator import Communicator, make_deterministic
    from training.parallel.watchdog import Watchdog
    from training.parallel.world import World

    run = run_folder(config, arguments.run)
    location = resolve(arguments.manifest, Layout.of(config).manifests, config.storage)
    manifest = load_with_shards(location, config.storage, arguments.root)
    preparation.check_configuration(config, manifest)
    check_dataset(config, run)
    if arguments.check:
        if arguments.resume:
            preparation.last_checkpoint(config, manifest, run, arguments.new_data)
        split_order(manifest, "train", config.train).check_world(World(0, arguments.ranks))
        log(f"{arguments.config}, {location} and the run {arguments.run!r} are in order")
        return 0
    if os.environ.get("HOROVOD_RANK", "0") == "0":
        log(f"the run {arguments.run!r} trains on {location}")  # joining the ring takes a few seconds
    make_deterministic(config.train.threads)
    communicator = Communicator.start()
    try:
        with Watchdog(config.train.watchdog, communicator.world.rank):
            if elastic.is_launched():
                return elastic.train(elastic.Launch(config, manifest, location, run, arguments, given))
            return _train(config, manifest, location, run, communicator, arguments, given)
    except HorovodInternalError as error:
        raise CheckError(
            f"rank {communicator.world.rank} stopped because another rank did, whose message stands above"
        ) from error
    finally:
        communicator.stop()


def _train(
    config: Configuration,
    manifest: Manifest,
    location: str,
    run: Path,
    communicator: "Communicator",
    arguments: argparse.Namespace,
    given: list[str],
) -> int:
    from training.engine import preparation, running

    complete, found = preparation.begin(config, manifest, run, communicator, arguments)
    if complete:
        return 0
    context, state = preparation.prepare(config, manifest, run, communicator, found)
    error: OSError | None = None
    if communicator.writes:
        try:
            running.begin_run(context, location, given, None if found is None else found[0])
        except OSError as failed:
            error = failed
    communicator.agree(error)
    finished = running.run_loop(context, state, None if found is None else found[0], arguments.stop_after)
    if not finished:
        if communicator.writes:
            log(f"stopped after step {state.step:,} as asked; --resume goes on from there")
        return 0
    running.finish(context, state, location)
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
