"""The files of a run that others than the training read: where they lie, and which data a run has learned from."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from common import json_lines
from common.errors import DataError

RUN_FILE: Final = "run.json"
"""What a training notes when it begins."""
CHECKPOINTS: Final = "checkpoints"
CHAIN: Final = "chain.jsonl"
"""In CHECKPOINTS: the records of all checkpoints that there ever were."""


def runs_in(folder: Path) -> list[Path]:
    """The folders of the runs below `train.runs`, by name."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if (path / RUN_FILE).exists() or _chain(path).exists())


def roots_of(run: Path) -> set[str]:
    """The manifest roots that a run was trained on. Raises DataError naming the file that cannot be read."""
    return set(_roots(run))


def _chain(run: Path) -> Path:
    return run / CHECKPOINTS / CHAIN


def _roots(run: Path) -> Iterator[str]:
    for path, documents in ((run / RUN_FILE, None), (_chain(run), "lines")):
        if not path.exists():
            continue
        try:
            for document in json_lines.lines(str(path)) if documents else [path.read_bytes()]:
                yield str(json.loads(document)["manifest_root"])
        except (DataError, OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} cannot be read ({error}): which data the run {run.name!r} learned from is not known"
            ) from error
