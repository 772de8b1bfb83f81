"""Kinds found in the rooms and in the packages of entry points, and what is refused."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sized
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from common import kinds
from common.errors import UsageError


def forget() -> None:
    kinds.modules.cache_clear()
    kinds.third_parties.cache_clear()


@pytest.fixture(autouse=True)
def _forgetting() -> Iterator[None]:
    """Forget before and after a test which kinds there are."""
    forget()
    yield
    forget()


def add(monkeypatch: pytest.MonkeyPatch, folder: Path, package: str, *files: str) -> None:
    """Make the files of a package, and name it by an entry point."""
    for file in files:
        path = folder / package / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    monkeypatch.syspath_prepend(str(folder))
    point = EntryPoint(package, package, kinds.GROUP)
    monkeypatch.setattr(kinds, "entry_points", lambda group: [point] if group == kinds.GROUP else [])


def test_ours_and_those_of_others_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = kinds.modules("schemas.models")
    assert ours["transformer_classifier"] == "schemas.models.transformer_classifier"
    forget()
    add(monkeypatch, tmp_path, "kinds_of_others", "schemas/models/tiny.py")
    assert kinds.modules("schemas.models") == {**ours, "tiny": "kinds_of_others.schemas.models.tiny"}
    assert "tiny" not in kinds.modules("schemas.methods")  # it has no such folder


def test_a_kind_of_two_packages_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, tmp_path, "kinds_twice", "schemas/models/transformer_classifier.py")
    with pytest.raises(
        UsageError, match=r"kinds_twice\.schemas.* and schemas\.models.* are of the same kind"
    ):
        kinds.modules("schemas.models")


def test_an_entry_point_without_a_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, tmp_path, "kinds_that_are_not_there")
    with pytest.raises(UsageError, match=r"the entry point 'kinds_that_are_not_there' .* cannot be imported"):
        kinds.modules("schemas.models")


def test_settings_without_code_are_named() -> None:
    with pytest.raises(
        UsageError, match=r"there is no training/models/huge\.py for the kind 'huge'.*known are"
    ):
        kinds.module("training.models", "huge")
    assert "training.models.huge" not in sys.modules


def test_a_defect_in_a_module_of_others_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, tmp_path, "kinds_with_a_defect", "training/models/odd.py")
    (tmp_path / "kinds_with_a_defect" / "training" / "models" / "odd.py").write_text("def (")
    with pytest.raises(
        UsageError, match=r"kinds_with_a_defect\.training\.models\.odd cannot be .*SyntaxError"
    ):
        kinds.module("training.models", "odd")


def test_what_the_code_of_a_kind_leaves_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, tmp_path, "kinds_in_part", "training/methods/half.py")
    file = tmp_path / "kinds_in_part" / "training" / "methods" / "half.py"
    file.write_text("from collections.abc import Sized\nclass Half(Sized): pass\n")
    with pytest.raises(UsageError, match=rf"{file}: the class Half must define __len__, as each Sized does"):
        kinds.subclass("training.methods", "half", Sized)
    with pytest.raises(UsageError, match=rf"{file} must define build, as each kind of that folder does"):
        kinds.module("training.methods", "half", "Half", "build")


def test_a_defect_ends_a_command_with_a_sentence(tmp_path: Path) -> None:
    package = tmp_path / "kinds_odd"
    package.mkdir()
    (package / "__init__.py").write_text("1 / 0")
    metadata = tmp_path / "kinds_odd-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: kinds-odd\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{kinds.GROUP}]\nodd = kinds_odd\n")
    checkout = Path(kinds.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "etl.history", "--config", "conf/licences.toml"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": f"{checkout}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert (
        "error: the entry point 'odd' of the group ringlake.kinds names the package 'kinds_odd'"
        in done.stderr
    )
