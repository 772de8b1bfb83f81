"""A demo on a slice of its real data, from the raw file to both reports, in one process."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.integration.main_job import CHECKOUT, succeeded

CHAIN = """
import json, sys
from common import command
from etl import pipeline
from training import evaluate, report, train
config, run = json.loads(sys.argv[1]), json.loads(sys.argv[2])
assert command.run(pipeline.main, config) == 0
for main in (train.main, evaluate.main, report.main):
    assert command.run(main, [*config, *run]) == 0
"""


def run_demo(
    folder: Path, name: str, data: str, chosen: Callable[[list[str]], list[str]], sets: Sequence[str]
) -> None:
    """Run conf/<name>.toml with overrides on the chosen lines of a gzipped file of data/, below the folder."""
    with gzip.open(CHECKOUT / "data" / data, "rt", newline="") as file:
        lines = chosen(file.read().splitlines())
    (folder / "slice.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    flags = [flag for one in ("source.0.path=slice.csv", *sets) for flag in ("--set", one)]
    config = ["--config", str(CHECKOUT / "conf" / f"{name}.toml"), *flags]
    succeeded(
        subprocess.run(
            [sys.executable, "-c", CHAIN, json.dumps(config), json.dumps(["--run", name])],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
    )


def summary_of(folder: Path, name: str) -> dict[str, Any]:
    """Return the summary of the run."""
    content: dict[str, Any] = json.loads((folder / "runs" / name / "summary.json").read_text("utf-8"))
    return content


def reports_of(folder: Path, name: str) -> tuple[str, str]:
    """Return the quality report and the run report."""
    return (
        (folder / "warehouse" / name / "quality" / "report.html").read_text(encoding="utf-8"),
        (folder / "runs" / name / "report.html").read_text(encoding="utf-8"),
    )
