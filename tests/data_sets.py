"""Data sets that several tests share: made once, and copied for tests that change them."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.config import Configuration
from schemas.tables import Layout


def copy_of(config: Configuration, folder: Path) -> Configuration:
    """Copy a data set to `folder`; return its configuration."""
    dataset = config.dataset.model_copy(update={"root": str(folder)})
    copied = config.model_copy(update={"dataset": dataset})
    shutil.copytree(Layout.of(config).root, Layout.of(copied).root)
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
