"""Folder of a run, and the files in it."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypedDict

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from common import files
from common.errors import DataError, UsageError
from common.progress import log
from schemas.config import Configuration
from schemas.runs import RUN_FILE

METRICS_FILE: Final = "metrics.jsonl"
EVENTS: Final = "tensorboard"
NON_FINITE_FILE: Final = "non_finite.jsonl"
SUMMARY_FILE: Final = "summary.json"
EVALUATION_FILE: Final = "evaluation.json"
DECISION_FILE: Final = "decision.json"
REPORT_FILE: Final = "report.html"
LOCK_FILE: Final = "lock"
"""Held by the training that writes there, see common/lock.py."""
RESULTS = (SUMMARY_FILE, EVALUATION_FILE, DECISION_FILE, REPORT_FILE)
"""Files that describe the end of a training."""
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def run_folder(config: Configuration, name: str) -> Path:
    """Return `<train.runs>/<name>`. Raises UsageError for a name that is not a plain folder name."""
    if not RUN_NAME.fullmatch(name):
        raise UsageError(f"--run {name!r}: use letters, digits, dots, dashes and underscores alone")
    return Path(config.train.runs) / name


@with_config(ConfigDict(extra="allow"))
class Began(TypedDict):
    """Content of run.json that others read."""

    command: str
    folder: str
    manifest: str
    manifest_root: str
    configuration: dict[str, Any]
    environment: dict[str, Any]


@with_config(ConfigDict(extra="allow"))
class Evaluated(TypedDict):
    """Content of evaluation.json that others read."""

    manifest_root: str
    checkpoint: str
    checkpoint_sha256: str
    split: str
    model: dict[str, Any] | None
    baselines: dict[str, dict[str, Any]]


def read_run(run: Path) -> dict[str, Any] | None:
    """Read run.json; None if there is none. Raises DataError if it is damaged."""
    remedy = "put it back from a copy, or train the run again with --again"
    return read_json(run / RUN_FILE, TypeAdapter(Began), remedy)


def read_evaluation(run: Path) -> dict[str, Any] | None:
    """Read evaluation.json; None if there is none. Raises DataError if it is damaged."""
    return read_json(run / EVALUATION_FILE, TypeAdapter(Evaluated), "evaluate the run again")


def read_json(path: Path, kind: TypeAdapter[Any], remedy: str) -> dict[str, Any] | None:
    """Read a JSON object of a kind; None if the file does not exist. Raises DataError with the remedy if it is
    something else.
    """
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise DataError(f"{path} is no JSON object: {remedy}")
        kind.validate_python(content)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; mend its permissions") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise DataError(f"{path} is damaged ({key}: {first['msg']}): {remedy}") from error
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): {remedy}") from error
    return content


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON object atomically; numbers that are not finite become null, because JSON has none, and are named in
    the log. Raises DataError if it cannot be written.
    """
    unknown: list[str] = []
    content = json.dumps(_finite(document, "", unknown), indent=1, ensure_ascii=False, allow_nan=False)
    try:
        files.write(path, f"{content}\n".encode())
    except OSError as error:
        raise DataError(f"{path} cannot be written: {files.told(error)}") from error
    if unknown:
        log(f"note: {', '.join(unknown)} in {path}: not finite, written as null")


def _finite(value: Any, key: str, unknown: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {
            name: _finite(one, f"{key}.{name}" if key else str(name), unknown) for name, one in value.items()
        }
    if isinstance(value, list | tuple):
        return [_finite(one, key, unknown) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        if key not in unknown:
            unknown.append(key)
        return None
    return value
