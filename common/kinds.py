"""Kinds: models, objectives, methods, optimizers, sources and features, each in two files.

A kind is `schemas/<room>/<kind>.py` with its settings and `<wing>/<room>/<kind>.py` with its code. A third party adds
kinds in a package of its own with the same folders, named by an entry point of the group `ringlake.kinds`: with the
value `my_package`, the files `my_package/schemas/models/tiny.py` and `my_package/training/models/tiny.py` make up the
model `tiny`.
"""

import functools
import importlib
import importlib.util
import inspect
import pkgutil
from importlib.metadata import entry_points
from typing import Any

from common.errors import UsageError

GROUP = "ringlake.kinds"
BROKEN = (
    ImportError,
    SyntaxError,
    ArithmeticError,
    AttributeError,
    LookupError,
    NameError,
    TypeError,
    ValueError,
)
"""Errors that a defect in a module raises while it is imported."""


@functools.cache
def modules(room: str) -> dict[str, str]:
    """Return the full names of the modules in a room (`training.models`) by kind, ours first, then entry points.

    Raises UsageError where two packages define the same kind, or an entry point names no package.
    """
    found: dict[str, str] = {}
    for package in (room, *(f"{foreign}.{room}" for foreign in third_parties())):
        for name in _in_package(package):
            full = f"{package}.{name}"
            if name in found:
                raise UsageError(
                    f"{full} and {found[name]} are of the same kind {name!r}: rename one of the two"
                )
            found[name] = full
    return found


@functools.cache
def third_parties() -> tuple[str, ...]:
    """Return the packages that entry points name. Raises UsageError naming one that cannot be imported."""
    found = []
    for point in entry_points(group=GROUP):
        try:
            importlib.import_module(point.value)
        except BROKEN as error:
            raise UsageError(
                f"the entry point {point.name!r} of the group {GROUP} names the package {point.value!r}, which cannot "
                f"be imported: {type(error).__name__}: {error}"
            ) from error
        found.append(point.value)
    return tuple(found)


def _in_package(package: str) -> list[str]:
    """Return the names of the modules in a package; none where a third party has no such folder."""
    try:
        if importlib.util.find_spec(package) is None:
            return []
    except ModuleNotFoundError as error:
        if error.name is not None and package.startswith(f"{error.name}."):
            return []
        raise
    path = importlib.import_module(package).__path__
    return [module.name for module in pkgutil.iter_modules(path) if not module.ispkg]


def module(room: str, kind: str, *needed: str) -> Any:
    """Return the module of a kind in a room, which has to define the names `needed`.

    Raises UsageError where it does not, and where a kind has settings but no code there.
    """
    found = modules(room)
    if kind not in found:
        raise UsageError(
            f"there is no {room.replace('.', '/')}/{kind}.py for the kind {kind!r}: each kind has its settings below "
            f"schemas/ and its code there; known are {', '.join(sorted(found))}"
        )
    code = imported(found[kind])
    missing = [name for name in needed if not hasattr(code, name)]
    if missing:
        raise UsageError(
            f"{code.__file__} must define {', '.join(missing)}, as each kind of that folder does"
        )
    return code


def imported(name: str) -> Any:
    """Import a module that may be a third party's. Raises UsageError naming it and what is wrong."""
    try:
        return importlib.import_module(name)
    except BROKEN as error:
        raise UsageError(f"the module {name} cannot be imported: {type(error).__name__}: {error}") from error


def subclass(room: str, kind: str, base: type) -> type:
    """Return the only subclass of `base` in a kind's module.

    Raises UsageError where there is not exactly one, or where it leaves out an abstract method.
    """
    of_kind = module(room, kind)
    found: list[type] = [
        value
        for value in vars(of_kind).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == of_kind.__name__
    ]
    if len(found) != 1:
        raise UsageError(
            f"{of_kind.__file__} must have exactly one subclass of {base.__name__}, not {len(found)}"
        )
    if inspect.isabstract(found[0]):
        left_out = ", ".join(sorted(found[0].__abstractmethods__))  # type: ignore[attr-defined]
        raise UsageError(
            f"{of_kind.__file__}: the class {found[0].__name__} must define {left_out}, as each {base.__name__} does"
        )
    return found[0]
