"""Files of a training run that others read: their locations, and the data that a run has learned from."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from common import json_lines, storage
from common.errors import DataError, UsageError
from common.storage import Storage
from schemas.config import Configuration
from schemas.manifest import published
from schemas.tables import Layout

RUN_FILE: Final = "run.json"
"""Record that training writes when it begins."""
CHECKPOINTS: Final = "checkpoints"
CHAIN: Final = "chain.jsonl"
"""In CHECKPOINTS: the records of all checkpoints ever written."""


def runs_in(folder: Path) -> list[Path]:
    """Return the folders of the runs below `train.runs`, by name."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if (path / RUN_FILE).exists() or _chain(path).exists())


def roots_of(run: Path) -> set[str]:
    """Return the manifest roots that a run was trained on. Raises DataError naming an unreadable file."""
    return set(_roots(run))


def manifest_of(
    run: Path, began: Mapping[str, Any], options: Storage, configured: Layout | None, root: str | None
) -> str:
    """Return where the manifest that a run was trained on lies now; `began` is the content of its run.json.

    It is looked for by its root: below `root` alone if that is given, else where a configuration says, relative to the
    run's folder, and where it lay when the run began. Raises DataError where it is in none of them.
    """
    sought = began["manifest_root"]
    if configured is None and root is not None:
        name = began["configuration"]["dataset"]["name"]
        configured = Layout(storage.absolute(storage.join(root, name)))
    there = {} if configured is None else published(configured.manifests, options)
    found = [place for place in there.values() if place.endswith(f"-{sought[:16]}.json")][-1:]
    if root is None:
        beside = storage.follow(began.get("manifest_from_run", began["manifest"]), storage.absolute(str(run)))
        found += [place for place in (beside, began["manifest"]) if storage.exists(place, options)]
    if not found:
        where = f"in {configured.manifests}" if configured and root is not None else f"at {began['manifest']}"
        raise DataError(
            f"the manifest of the run {run.name!r}, with the root {sought[:16]}…, is not {where}: say with --root "
            "which folder holds the folder of its data set now, or with --manifest where the manifest is"
        )
    return found[0]


def check_dataset(config: Configuration, run: Path) -> None:
    """Raise UsageError if a folder holds the run of another data set than the configuration's."""
    try:
        name = json.loads((run / RUN_FILE).read_bytes())["configuration"]["dataset"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # nothing began here, or what reads the file will say so
    if name != config.dataset.name:
        raise UsageError(
            f"the run {run.name!r} in {run.parent} is of the data set {name!r}, the configuration of "
            f"{config.dataset.name!r}: give the run's own configuration, or another run"
        )


def _chain(run: Path) -> Path:
    return run / CHECKPOINTS / CHAIN


def _roots(run: Path) -> Iterator[str]:
    for path, documents in ((run / RUN_FILE, None), (_chain(run), "lines")):
        if not path.exists():
            continue
        try:
            for document in json_lines.lines(str(path)) if documents else [path.read_bytes()]:
                found = json.loads(document)
                yield str(found["manifest_root"])
                if not documents and found.get(
                    "started_from"
                ):  # the data of the run that gave the first weights
                    yield from map(str, found["started_from"]["manifest_roots"])
        except (DataError, OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} cannot be read ({error}): which data the run {run.name!r} learned from is not known"
            ) from error
