"""The small copy of the checkout that the tests of the set-up share."""

import shutil
from pathlib import Path

import pytest

from tests.setup.scripts import CHECKOUT, TOOLS


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Make a folder with the set-up scripts and the requirements, a home beside it and a PATH of only basic tools."""
    for name in ("setup", "requirements"):
        shutil.copytree(CHECKOUT / name, tmp_path / "checkout" / name)
    (tmp_path / "home").mkdir()
    (tmp_path / "bin").mkdir()
    for tool in TOOLS.split():
        found = shutil.which(tool)
        assert found is not None, f"the set-up needs {tool}, which is not installed"
        (tmp_path / "bin" / tool).symlink_to(found)
    return tmp_path / "checkout"
