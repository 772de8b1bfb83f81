"""The run report: `python -m training.report --config FILE --run NAME` writes `<runs>/<run>/report.html`.

One self-contained page: the figures against the baseline, learning curves, the lineage from the sources to the
checkpoint, the environment, and the command that repeats the run. It notes both reports in summary.json.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import command, storage
from common.errors import DataError, UsageError
from common.pages.page import Page, render
from common.progress import say
from schemas import class_mix
from schemas.config import load
from schemas.manifest import Manifest
from schemas.manifest import load as load_manifest
from schemas.runs import RUN_FILE
from training import evaluate
from training.checkpoints.store import write_atomically
from training.engine import non_finite
from training.reporting import sections
from training.tracking import metrics, summary
from training.train import run_folder

NAME = "report.html"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = command.configuration_parser("python -m training.report", __doc__)
    parser.add_argument("--run", required=True, metavar="NAME", help="the folder below train.runs")
    arguments = parser.parse_args(argv)
    config = load(arguments.config, arguments.overrides)
    run = run_folder(config, arguments.run)
    began = read_json(run / RUN_FILE)
    if began is None:
        raise UsageError(
            f"there is no run {run.name!r} in {run.parent}; train it first (python -m training.train)"
        )
    manifest = load_manifest(began["manifest"], config.storage)
    if manifest.manifest_root != began["manifest_root"]:
        raise DataError(
            f"{began['manifest']} has the root {manifest.manifest_root[:16]}…, but the run {run.name!r} was trained on "
            f"{began['manifest_root'][:16]}…; put the manifest back, or train again"
        )
    page = report_page(
        run.name,
        began,
        manifest,
        summary.read(run),
        metrics.read(run),
        read_json(run / evaluate.NAME),
        list(non_finite.read(run)),
    )
    path = run / NAME
    write_atomically(path, render(page).encode())
    quality = storage.join(manifest.dataset_uri, "quality", "report.html")
    summary.update(run, reports={"quality": quality, "run": str(path.absolute())})
    say(f"report: {path}")
    return 0


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None when the file is not there. Raises DataError when it is something else."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; train or evaluate again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is no JSON object; train or evaluate again")
    return content


def report_page(
    run: str,
    began: dict[str, Any],
    manifest: Manifest,
    results: dict[str, Any],
    entries: Sequence[dict[str, Any]],
    evaluation: dict[str, Any] | None,
    not_finite: Sequence[non_finite.Batch] = (),
) -> Page:
    """The page from run.json, the manifest, summary.json, metrics.jsonl, evaluation.json and non_finite.jsonl.

    The same files give the same page.
    """
    if evaluation is not None and evaluation["manifest_root"] != manifest.manifest_root:
        evaluation = None  # of an earlier training in the same folder
    training = results.get("training", {})
    shown = [
        sections.against_baseline(evaluation),
        *sections.confusion(evaluation),
        sections.curves(entries),
        *sections.non_finite(not_finite),
        class_mix.section(manifest.splits["train"]),
        sections.lineage(manifest, began, training, evaluation),
        sections.settings(began),
        sections.environment(began),
    ]
    subtitle = f"Trained on {manifest.content.dataset}, manifest root {manifest.manifest_root}"
    return Page(f"Run {run}", subtitle, sections.tiles(training, evaluation), shown, "Made by ringlake.")


if __name__ == "__main__":
    sys.exit(command.run(main))
