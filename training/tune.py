"""Search settings: `python -m training.tune --config FILE --study NAME` trains once a trial of `[tune.space]`.

Each trial is a training of its own (a horovodrun of its own with `--ranks N`), judged by the validation split and ended
early where it is behind. The same command goes on with a study that was interrupted, and several at once share one. The
best trial's configuration is written to `<runs>/<study>/winner.toml`, with a report beside it; the test split is not
touched.
"""

import argparse
import importlib.util
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from common import command
from common.errors import CheckError, UsageError
from common.progress import log
from schemas.config import Configuration, load
from schemas.manifest import Manifest, load_with_shards, resolve
from schemas.runs import RUN_FILE
from schemas.tables import Layout
from training.engine.stopping import STATUS, Preemption, Stopped
from training.tracking.run_files import run_folder

if TYPE_CHECKING:
    from training.tuning.study import Study
    from training.tuning.trials import Setting

PACKAGES = ("optuna", "sqlalchemy", "tomli_w")
GRACE = 90
"""Seconds beyond `train.grace` that a search has to end after a signal."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    flags = command.configuration_parser("python -m training.tune", __doc__)
    flags.add_argument(
        "--study", required=True, metavar="NAME", help="the folder below train.runs to write to"
    )
    command.add_manifest_flags(
        flags, None, "a manifest, or latest; by default the one that the study was begun on, or the latest"
    )
    command.add_root_flag(flags)
    flags.add_argument("--ranks", type=int, default=1, metavar="N", help="processes of each training (1)")
    flags.add_argument(
        "--hosts", metavar="H:N,…", help="where its ranks run, as for horovodrun -H (localhost)"
    )
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = parser().parse_args(argv)
    if arguments.ranks < 1:
        raise UsageError(f"--ranks {arguments.ranks}: give at least 1")
    if arguments.hosts is not None and arguments.ranks == 1:
        raise UsageError(
            "--hosts says where several ranks run: give their number with --ranks, or leave it out"
        )
    overrides = command.overrides(arguments)
    config = load(arguments.config, overrides)
    folder = run_folder(config, arguments.study)
    if (folder / RUN_FILE).exists():
        raise UsageError(f"--study {arguments.study!r}: {folder} holds a run of that name; give another name")
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise UsageError(f'a search needs the package {package}: pip install "ringlake[tune]"')
    with Preemption(config.train.grace + GRACE):
        try:
            return _tune(config, arguments, overrides, folder)
        except Stopped as stopped:
            log(f"{stopped} (status {STATUS})")
            return STATUS


def _tune(config: Configuration, arguments: argparse.Namespace, overrides: list[str], folder: Path) -> int:
    # They take seconds, which a mistake in the configuration is not worth.
    import optuna

    from training import methods, objectives
    from training.engine import preparation, stopping
    from training.parallel.world import World
    from training.silos.loading import order_of
    from training.tuning import space, trials
    from training.tuning.study import facts_in, opened

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space.check(arguments.config, overrides, config)
    begun = facts_in(folder) or {}
    sought = arguments.manifest or begun.get("manifest", "latest")
    location = resolve(sought, Layout.of(config).manifests, config.storage)
    manifest = load_with_shards(location, config.storage, arguments.root)
    preparation.check_configuration(config, manifest)
    if not manifest.splits["validation"].rows:
        raise UsageError(
            "a search judges by the validation split, and this data set has none: publish it with split.validation "
            "above 0"
        )
    if arguments.ranks > 1 and config.train.backend != "horovod":
        raise UsageError(
            f"train.backend = {config.train.backend!r}: a search starts its ranks with horovodrun, so leave it out, or "
            "give --ranks 1"
        )
    order_of(manifest, config.method, config.train).check_world(World(0, arguments.ranks))
    objective, method = objectives.kind(config.objective.kind), methods.kind(config.method.kind)
    known = {"loss": False, objective.criterion: objective.higher_is_better}
    known |= {f"{objectives.ATTACKED}{name}": higher for name, higher in known.items()}
    deciding = (objectives.ATTACKED if method.judges_under_attack else "") + objective.criterion
    metric = config.tune.metric or deciding
    higher = known.get(metric, config.tune.higher_is_better)
    if higher is None or config.tune.higher_is_better not in (None, higher):
        raise UsageError(
            f"tune.metric = {metric!r}: say with tune.higher_is_better whether a higher one is better"
            if higher is None
            else f"tune.higher_is_better = {str(not higher).lower()} is wrong for {metric!r}: leave it out"
        )
    sought_by = config.tune.model_dump(mode="json", exclude={"trials", "storage"}, exclude_none=True)
    facts = {
        "manifest": location,
        "manifest_root": manifest.manifest_root,
        "ranks": arguments.ranks,
        "configuration_sha256": config.sha256(),
        "tune": sought_by | {"metric": metric},
        "higher_is_better": higher,
    }
    setting = trials.Setting(
        arguments.config, overrides, _given(arguments), location, arguments.ranks, arguments.hosts,
        metric, objective.criterion, objective.higher_is_better,
    )  # fmt: skip
    stopping.defer()
    with opened(folder, config.tune, facts, config.train.epochs) as study:
        with suppress(trials.Stopped):
            while stopping.requested() is None and (claim := study.claim()) is not None:
                with claim.held:
                    trials.run(study, claim, setting)
        if stopping.requested() is not None:
            log(f"stopped; the same command goes on with the study (status {STATUS})")
            return STATUS
        return _finish(study, setting, manifest)


def _given(arguments: argparse.Namespace) -> list[str]:
    """Return the flags for a training; those of the search itself mean nothing to it."""
    sets = [one for one in arguments.overrides if not one.startswith("tune.")]
    root = [] if arguments.root is None else ["--root", arguments.root]
    return ["--config", arguments.config, *(part for one in sets for part in ("--set", one)), *root]


def _finish(study: "Study", setting: "Setting", manifest: Manifest) -> int:
    """Write the winner's configuration and the report. Raises CheckError where no trial was trained to its end."""
    from training.tuning import page, winner

    best = study.winner()
    if best is None:
        messages = [one.user_attrs["error"] for one in study.trials() if "error" in one.user_attrs]
        raise CheckError(
            f"no trial of the study {study.name!r} was trained to its end"
            + (f"; the last that failed: {messages[-1]}" if messages else "")
        )
    run = setting.run_of(study, best.number)
    launcher = "".join(f"{part} " for part in ["horovodrun", *setting.launcher()[1:]] if setting.ranks > 1)
    path = study.folder / winner.WINNER_FILE
    again = f"python -m training.train --config {shlex.quote(str(path))} --manifest {shlex.quote(setting.manifest)}"
    facts = {
        "winner of the study": f"{study.name}, trial {best.number} of {len(study.trials())}, run {run}",
        f"validation {setting.metric}": f"{best.value!r}, epoch {best.user_attrs['epoch']}",
        "manifest root": manifest.manifest_root,
        "configuration": best.user_attrs["configuration_sha256"],
        "weights": str(best.user_attrs["weights_sha256"]),
        "train it again": f"{launcher}{again} --run {study.name}-winner",
    }
    winner.write(study, best, setting.file, setting.overrides, facts)
    report = page.write(study, setting, facts, winner.assignments(study, best))
    log(f"trial {best.number} is the best of {len(study.trials())}: {setting.metric} {best.value:.6g}")
    log(f"its configuration: {path}; report: {report}")
    log("the test split has not been touched; once you have chosen, judge the winner on it, once:")
    print(f"python -m training.evaluate --config {shlex.quote(str(path))} --run {run}")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
