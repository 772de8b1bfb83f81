"""The kind of each test, by what it uses."""

import multiprocessing
import subprocess
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

STARTERS: tuple[ModuleType, ...] = (subprocess, multiprocessing)
"""Modules that start processes."""
ORDER = ("process", "spark", "unit")
"""What takes longest begins first, so that at the end no worker waits for another."""


def kind_of(item: pytest.Item) -> str:
    """`process` where the test, its fixtures or a helper in tests/ uses a module that starts processes, else `spark`
    where it has a Spark session, else `unit`.
    """
    fixtures = _fixtures_of(item)
    used = [getattr(item, "function", None), *(fixture.func for fixture in fixtures)]
    if any(starts_processes(function) for function in used):
        return "process"
    return "spark" if "spark" in {fixture.argname for fixture in fixtures} else "unit"


def starts_processes(used: object) -> bool:
    """Whether a function or class, or one of tests/ that it names, names a module that starts processes."""
    seen, pending = set[int](), [used]
    while pending:
        one = pending.pop()
        if any(one is module for module in STARTERS):
            return True
        if id(one) not in seen and str(getattr(one, "__module__", "")).startswith("tests."):
            seen.add(id(one))
            pending += _names(one)
    return False


def _names(used: object) -> Iterator[object]:
    """The global values that a function or class names."""
    if isinstance(used, type):
        yield from vars(used).values()
    elif isinstance(function := getattr(used, "__wrapped__", getattr(used, "fget", used)), FunctionType):
        for name in _global_names(function.__code__):
            if name in function.__globals__:
                yield function.__globals__[name]


def _global_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _fixtures_of(item: pytest.Item) -> list[Any]:
    """The definitions of all fixtures that a test uses, directly or through others."""
    found = getattr(item, "_fixtureinfo", None)
    return [] if found is None else [given[-1] for given in found.name2fixturedefs.values() if given]
