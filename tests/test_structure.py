"""Layers, circles, commands and sizes of the code, and names that would shadow a library."""

import ast
import graphlib
import importlib.machinery
import itertools
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
LAYERS: Mapping[str, int] = {"common": 0, "provenance": 1, "schemas": 2, "etl": 3, "training": 3}
"""A package imports itself and those with a smaller number."""
WINGS = ("etl", "training")
LARGEST_ROOM = 16
"""Modules in a folder, its `__init__` left aside."""
LONGEST_FILE = 400
"""Lines."""

Sources = Mapping[str, str]
"""Module name to source; a package is named without `__init__`."""


def sources_in(root: Path) -> Sources:
    """Reads all modules of the layers below a checkout."""
    found = {}
    for package in LAYERS:
        for path in sorted((root / package).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path.read_text("utf-8")
    return found


def imported(source: str) -> Iterator[tuple[str, str | None]]:
    """Yields module and name (None for a whole module) of every import, wherever in the module it stands.

    Imports in functions and under TYPE_CHECKING count, and so do imports by a literal name (`import_module("etl.x")`).
    """
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from ((alias.name, None) for alias in names)
            case ast.ImportFrom(module=str(module), level=0, names=names):
                yield from ((module, alias.name) for alias in names)
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name, None


def graph_of(sources: Sources) -> dict[str, set[str]]:
    """By module the modules of the layers that it imports; `from package import module` counts as the module."""
    graph = {}
    for name, source in sources.items():
        targets = {
            f"{module}.{what}" if what is not None and f"{module}.{what}" in sources else module
            for module, what in imported(source)
        }
        graph[name] = (targets & sources.keys()) - {name}
    return graph


def against_the_layers(sources: Sources) -> set[tuple[str, str]]:
    """Imports of a layer above, or of the other wing."""
    found = set()
    for name, source in sources.items():
        package = name.partition(".")[0]
        for module, _ in imported(source):
            target = module.partition(".")[0]
            if target != package and LAYERS.get(target, -1) >= LAYERS[package]:
                found.add((name, module))
    return found


def circles(graph: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """Sets of modules that import each other in a circle; of overlapping circles one each is enough to fail."""
    left, found = {name: set(targets) for name, targets in graph.items()}, set()
    while True:
        try:
            graphlib.TopologicalSorter(left).prepare()
        except graphlib.CycleError as error:
            circle: list[str] = error.args[1]
            found.add(frozenset(circle))
            # Listed against the arrows of the imports: each imports the one before it.
            for before, after in itertools.pairwise(circle):
                left[after].discard(before)
            continue
        return found


def commands_in(sources: Sources) -> set[str]:
    """Modules directly in a wing that define `main`."""
    return {
        name
        for name, source in sources.items()
        if name.count(".") == 1 and name.startswith(tuple(f"{wing}." for wing in WINGS))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in ast.parse(source).body)
    }


def imports_of_commands(sources: Sources) -> set[tuple[str, str]]:
    """Imports of a command, by another command or by a module of a room."""
    commands = commands_in(sources)
    return {(name, target) for name, targets in graph_of(sources).items() for target in targets & commands}


def rooms(sources: Sources) -> Counter[str]:
    """Modules in each folder, the package itself left aside."""
    packages = {name.rpartition(".")[0] for name in sources}
    return Counter(name.rpartition(".")[0] for name in sources if name not in packages)


def too_long(sources: Sources) -> set[str]:
    """Modules with more lines than a file may have."""
    return {name for name, source in sources.items() if len(source.splitlines()) > LONGEST_FILE}


@pytest.fixture(scope="module")
def sources() -> Sources:
    return sources_in(CHECKOUT)


def test_each_layer_imports_only_what_stands_below_it(sources: Sources) -> None:
    assert all(sum(name.startswith(f"{package}.") for name in sources) > 3 for package in LAYERS)
    assert against_the_layers(sources) == set()


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("etl.a", "import training.engine.loop"),
        ("etl.a", "def f():\n    from training import order"),
        ("training.a", "import json, etl as e"),
        ("schemas.a", "from importlib import import_module\nimport_module('etl.spark.session')"),
        ("schemas.a", "if True:\n    __import__('training')"),
        ("provenance.a", "from schemas import config"),
        ("common.a", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import provenance.keys"),
    ],
)
def test_an_import_against_the_layers_would_be_found(name: str, source: str) -> None:
    assert len(against_the_layers({name: source})) == 1


def test_imports_down_the_layers_pass() -> None:
    source = (
        "from schemas import config\nimport common.storage\nimport etl.spark.session\nimport trainingless"
    )
    assert against_the_layers({"etl.a": source}) == set()


def test_no_modules_import_each_other_in_a_circle(sources: Sources) -> None:
    assert circles(graph_of(sources)) == set()


def test_a_circle_would_be_found() -> None:
    circle = {
        "etl.a": "from etl import b",
        "etl.b": "def f():\n    from etl.c import d",
        "etl.c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import etl.a",
        "etl.d": "import etl.a\nimport etl.b",
    }
    assert circles(graph_of(circle)) == {frozenset({"etl.a", "etl.b", "etl.c"})}
    two = circle | {"etl.e": "import etl.f", "etl.f": "import etl.e"}
    assert len(circles(graph_of(two))) == 2
    assert circles(graph_of(circle | {"etl.c": ""})) == set()


def test_nothing_imports_a_command(sources: Sources) -> None:
    assert {"etl.publish", "etl.verify", "training.train"} <= commands_in(sources)
    assert imports_of_commands(sources) == set()


def test_the_contract_of_import_linter_names_every_command(sources: Sources) -> None:
    contracts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    [independent] = [set(contract["modules"]) for contract in contracts if contract["type"] == "independence"]
    # `cli` finds the commands by their names and imports the one that was asked for.
    assert independent == commands_in(sources) - {"etl.cli", "training.cli"}


def test_an_import_of_a_command_would_be_found() -> None:
    command, room = "def main() -> int:\n    return 0\n", "def f():\n    from etl.a import main\n"
    modules = {"etl": "", "etl.a": command, "etl.b": f"from etl import a\n{command}", "etl.room.c": room}
    assert imports_of_commands(modules) == {("etl.b", "etl.a"), ("etl.room.c", "etl.a")}
    # In a room `main` is a name like any other.
    assert imports_of_commands({"etl.room.a": command, "etl.b": "import etl.room.a"}) == set()


def test_no_room_holds_too_many_modules(sources: Sources) -> None:
    assert {room for room, count in rooms(sources).items() if count > LARGEST_ROOM} == set()


def test_the_modules_of_a_room_are_counted() -> None:
    modules = {"etl": "", "etl.a": "", "etl.room": "", "etl.room.b": "", "etl.room.c": ""}
    assert rooms(modules) == {"etl": 1, "etl.room": 2}


def test_no_file_is_too_long(sources: Sources) -> None:
    assert too_long(sources) == set()


def test_a_file_that_is_too_long_would_be_found() -> None:
    assert too_long({"etl.a": "\n" * LONGEST_FILE, "etl.b": "\n" * (LONGEST_FILE + 1)}) == {"etl.b"}


@pytest.mark.parametrize("package", LAYERS)
def test_no_module_hides_a_library_when_its_neighbour_is_started_as_a_script(package: str) -> None:
    # `spark-submit etl/ingest.py` puts etl/ itself at the head of the path: etl/delta.py would then be `delta`.
    assert hidden_by(CHECKOUT / package) == set()


def test_a_module_that_hides_a_library_would_be_found(tmp_path: Path) -> None:
    for name in ("json.py", "pytest.py", "ours_alone.py"):
        (tmp_path / name).touch()
    assert hidden_by(tmp_path) == {"json", "pytest"}


def hidden_by(folder: Path) -> set[str]:
    """Names of libraries that modules and folders of a folder would hide were it at the head of the path."""
    elsewhere = [entry for entry in sys.path if Path(entry).resolve() not in (CHECKOUT, folder)]
    names = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    names -= {"__init__", "__pycache__"}
    names -= {"examples"}  # petastorm installs its examples under this name; nobody imports them
    found = {name for name in names if importlib.machinery.PathFinder.find_spec(name, elsewhere) is not None}
    return found | (names & set(sys.stdlib_module_names))
