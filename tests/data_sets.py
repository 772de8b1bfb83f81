"""Data sets that several tests share: made once, and copied for tests that change them."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas import manifest as manifests
from schemas.config import Configuration
from schemas.manifest import Manifest
from schemas.tables import Layout


def copy_of(config: Configuration, folder: Path) -> Configuration:
    """Copy a data set to `folder`; return its configuration.

    The manifests of the copy name its own location.
    """
    dataset = config.dataset.model_copy(update={"root": str(folder)})
    copied = config.model_copy(update={"dataset": dataset})
    there = Layout.of(copied)
    shutil.copytree(Layout.of(config).root, there.root)
    for location in Path(there.manifests).glob("*.json"):
        old = manifests.load(str(location))
        new = Manifest.seal(old.content, old.provenance, there.shards, old.delta_version, there.root)
        location.write_bytes(new.to_json())
    return copied


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder `name`, which the first worker to ask for it lets `make` fill, while the others wait.

    If making it fails, the next worker to ask makes it again.
    """
    base = factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = base / name, base / f"{name}.done"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
