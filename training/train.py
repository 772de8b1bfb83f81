"""Train on a published version: `horovodrun -np N python -m training.train --config FILE --run NAME`.

With `train.backend = "ddp"`: `torchrun --standalone --nproc-per-node N -m -- training.train …`. Without a launcher, a
single process trains.
"""

import argparse
import sys
from collections.abc import Sequence

from common import command
from common.errors import UsageError
from common.progress import log
from schemas.config import Configuration, load
from schemas.manifest import load_with_shards, resolve
from schemas.runs import check_dataset
from schemas.tables import Layout
from training.engine.stopping import STATUS, Preemption, Stopped
from training.tracking.run_files import run_folder


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    flags = command.configuration_parser("python -m training.train", __doc__)
    flags.add_argument("--run", required=True, metavar="NAME", help="the folder below train.runs to write to")
    command.add_manifest_flags(flags, "latest", "a manifest, or latest (the default)")
    command.add_root_flag(flags)
    flags.add_argument(
        "--resume",
        nargs="?",
        const="yes",
        choices=["yes", "auto"],
        help="go on from the run's last good checkpoint; --resume=auto begins a run that is not there yet",
    )
    flags.add_argument(
        "--again", action="store_true", help="remove what a training left under this name, and begin anew"
    )
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
    if arguments.again and arguments.resume:
        raise UsageError("--again begins anew, --resume goes on: give one of them")
    config = load(arguments.config, command.overrides(arguments))
    with Preemption(config.train.grace):
        try:
            return _train(config, arguments, given)
        except Stopped as stopped:
            log(f"{stopped} (status {STATUS})")
            return STATUS


def _train(config: Configuration, arguments: argparse.Namespace, given: list[str]) -> int:
    # It takes seconds (torch, Horovod), which a mistake in the configuration is not worth.
    from training import models
    from training.engine import preparation, session
    from training.engine.state import Launch

    config = models.resolved(config)
    run = run_folder(config, arguments.run)
    location = resolve(arguments.manifest, Layout.of(config).manifests, config.storage)
    manifest = load_with_shards(location, config.storage, arguments.root)
    preparation.check_configuration(config, manifest)
    check_dataset(config, run)
    launch = Launch(config, manifest, location, run, arguments, given)
    if arguments.check:
        session.check(launch, arguments.ranks)
        log(f"{arguments.config}, {location} and the run {arguments.run!r} are in order")
        return 0
    return session.train(launch)


if __name__ == "__main__":
    sys.exit(command.run(main))
