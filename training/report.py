"""The run report: `python -m training.report --config FILE --run NAME` writes `<runs>/<run>/report.html`.

One self-contained page: the figures against the baselines, learning curves, the lineage from the sources to the
checkpoint, the environment, and the command that repeats the run. It notes both reports in summary.json.
"""

import sys
from collections.abc import Sequence

from common import command, files, storage
from common.errors import DataError, UsageError
from common.pages.page import render
from common.progress import log
from schemas.config import load
from schemas.manifest import load as load_manifest
from schemas.runs import RUN_FILE
from training.reporting.page import report_page
from training.tracking import metrics, non_finite, summary
from training.tracking.run_files import EVALUATION_FILE, REPORT_FILE, read_json, run_folder


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
        read_json(run / EVALUATION_FILE),
        list(non_finite.read(run)),
    )
    path = run / REPORT_FILE
    files.write(path, render(page).encode())
    quality = storage.join(manifest.dataset_uri, "quality", "report.html")
    summary.update(run, reports={"quality": quality, "run": str(path.absolute())})
    log(f"report: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
