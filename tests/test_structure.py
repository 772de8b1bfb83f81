"""Directions of imports (etl and training meet only in schemas, schemas knows neither); names that would shadow."""

import ast
import importlib.machinery
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
FORBIDDEN: Mapping[str, frozenset[str]] = {
    "etl": frozenset({"training"}),
    "training": frozenset({"etl"}),
    "schemas": frozenset({"etl", "training"}),
}


def imported_packages(source: str) -> Iterator[str]:
    """Yields the top-level package of every import in a module's source, wherever in the module it stands.

    Imports by name (`importlib.import_module("etl.x")`, `__import__("etl")`) count where the name is a literal.
    """
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name.split(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.split(".")[0]
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name.split(".")[0]


def violations(package: str, source: str) -> frozenset[str]:
    """The packages that a module of `package` with this source imports although it must not."""
    return FORBIDDEN[package].intersection(imported_packages(source))


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_module_imports_against_the_direction(package: str) -> None:
    modules = sorted((CHECKOUT / package).rglob("*.py"))
    assert len(modules) > 3
    found = {
        str(path.relative_to(CHECKOUT)): violations(package, path.read_text("utf-8")) for path in modules
    }
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("etl", "import training.engine.loop"),
        ("etl", "def f():\n    from training import order"),
        ("training", "import json, etl as e"),
        ("schemas", "from importlib import import_module\nimport_module('etl.spark.session')"),
        ("schemas", "if True:\n    __import__('training')"),
    ],
)
def test_a_violation_would_be_found(package: str, source: str) -> None:
    assert len(violations(package, source)) == 1


def test_imports_in_the_right_direction_pass() -> None:
    assert (
        violations("etl", "from schemas import config\nimport etl.spark.session\nimport trainingless")
        == set()
    )


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_module_hides_a_library_when_its_neighbour_is_started_as_a_script(package: str) -> None:
    # `spark-submit etl/ingest.py` puts etl/ itself at the head of the path: etl/delta.py would then be `delta`.
    elsewhere = [entry for entry in sys.path if Path(entry).resolve() not in (CHECKOUT, CHECKOUT / package)]
    names = {path.stem for path in (CHECKOUT / package).iterdir() if path.suffix == ".py" or path.is_dir()}
    names -= {"__init__", "__pycache__"}
    names -= {"examples"}  # petastorm installs its examples under this name; nobody imports them
    hidden = {name for name in names if importlib.machinery.PathFinder.find_spec(name, elsewhere) is not None}
    assert hidden | (names & set(sys.stdlib_module_names)) == set()
