"""Write the run report: `python -m training.report --config FILE --run NAME` creates `<runs>/<run>/report.html`.

One self-contained page: the figures against the baselines, learning curves, the lineage from the sources to the
checkpoint, the environment, and the command that repeats the run. Both reports are entered in summary.json.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import command, files, storage
from common.errors import DataError, UsageError
from common.pages.page import Page, render
from common.progress import log
from schemas import lopsided
from schemas.config import load
from schemas.manifest import Manifest
from schemas.manifest import load as load_manifest
from schemas.runs import RUN_FILE, check_dataset, manifest_of
from schemas.tables import Layout
from training.adversarial import sections as under_attack
from training.reporting import federated, privacy, sections
from training.tracking import metrics, non_finite, summary
from training.tracking.run_files import REPORT_FILE, read_evaluation, read_run, run_folder


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = command.configuration_parser("python -m training.report", __doc__)
    parser.add_argument("--run", required=True, metavar="NAME", help="the folder below train.runs")
    command.add_root_flag(parser)
    arguments = parser.parse_args(argv)
    config = load(arguments.config, command.overrides(arguments))
    run = run_folder(config, arguments.run)
    began = read_run(run)
    if began is None:
        raise UsageError(
            f"there is no run {run.name!r} in {run.parent}; train it first (python -m training.train)"
        )
    check_dataset(config, run)
    location = manifest_of(run, began, config.storage, Layout.of(config), arguments.root)
    manifest = load_manifest(location, config.storage)
    if manifest.manifest_root != began["manifest_root"]:
        raise DataError(
            f"{location} has the root {manifest.manifest_root[:16]}…, but the run {run.name!r} was trained on "
            f"{began['manifest_root'][:16]}…; put the manifest back, or train again"
        )
    if "objective" not in began["configuration"]:
        raise DataError(
            f"{run / RUN_FILE} was written by an earlier version of ringlake, which knew no objectives: train again"
        )
    page = report_page(run, placed(began, location), manifest)
    path = run / REPORT_FILE
    quality = storage.join(manifest.dataset_uri, "quality", "report.html")
    try:
        files.write(path, render(page).encode())
    except OSError as error:
        raise DataError(f"the report {path} cannot be written: {files.told(error)}") from error
    log(f"report: {path}")
    summary.update(run, reports={"quality": quality, "run": str(path.absolute())})
    return 0


def placed(began: dict[str, Any], location: str) -> dict[str, Any]:
    """Return what run.json says, with the place where the manifest lies now, also in the command that repeats it."""
    before, now = str(began["manifest"]), storage.absolute(location)
    repeat = began.get("repeat", began["command"]).replace(shlex.quote(before), shlex.quote(now))
    return {**began, "manifest": now, "repeat": repeat}


def report_page(run: Path, began: dict[str, Any], manifest: Manifest) -> Page:
    """Build the page from a run's files; `began` is the content of run.json. Equal files give equal pages.

    The objective decides how the evaluation is shown.
    """
    from training import objectives  # imports torch

    training = summary.read(run).get("training", {})
    evaluation = read_evaluation(run)
    if evaluation is not None and evaluation["manifest_root"] != manifest.manifest_root:
        evaluation = None  # from an earlier training in the same folder
    if evaluation is not None and evaluation["model"] is None:
        evaluation = None  # the split had no rows: the sections say so by the manifest
    outdated = None if evaluation is None else summary.outdated(run, evaluation)
    objective = objectives.kind(began["configuration"]["objective"]["kind"])
    shown = [
        *sections.attention([*lopsided.of_manifest(manifest), *_learned_before(began)]),
        *([] if outdated is None else [sections.outdated(outdated)]),
        *objective.sections(manifest, evaluation),
        *sections.augmented(evaluation),
        *under_attack.attacks(evaluation),
        sections.curves(metrics.read(run), objective.of_loss),
        *sections.non_finite(non_finite.read(run)),
        *privacy.section(training),
        *federated.section(training),
        *federated.local_steps(training),
        sections.lineage(manifest, began, training, evaluation),
        sections.settings(began),
        sections.environment(began),
    ]
    subtitle = f"Trained on {manifest.content.dataset}, manifest root {manifest.manifest_root}"
    return Page(
        f"Run {run.name}",
        subtitle,
        sections.tiles(training, None if outdated else evaluation),
        shown,
        "Made by ringlake.",
    )


def _learned_before(began: dict[str, Any]) -> list[str]:
    from training.engine import overlap  # imports torch

    found = (began.get("started_from") or {}).get("overlap")
    return overlap.sentences(found) if found else []


if __name__ == "__main__":
    sys.exit(command.run(main))
