"""Folder of a run, and the files in it."""

import json
import re
from pathlib import Path
from typing import Any, Final

from common.errors import DataError, UsageError
from schemas.config import Configuration

METRICS_FILE: Final = "metrics.jsonl"
EVENTS: Final = "tensorboard"
NON_FINITE_FILE: Final = "non_finite.jsonl"
SUMMARY_FILE: Final = "summary.json"
EVALUATION_FILE: Final = "evaluation.json"
REPORT_FILE: Final = "report.html"
RESULTS = (SUMMARY_FILE, EVALUATION_FILE, REPORT_FILE)
"""Files that describe the end of a training."""
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def run_folder(config: Configuration, name: str) -> Path:
    """Return `<train.runs>/<name>`. Raises UsageError for a name that is not a plain folder name."""
    if not RUN_NAME.fullmatch(name):
        raise UsageError(f"--run {name!r}: use letters, digits, dots, dashes and underscores alone")
    return Path(config.train.runs) / name


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None if the file does not exist. Raises DataError if it is something else."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; train or evaluate again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is no JSON object; train or evaluate again")
    return content
