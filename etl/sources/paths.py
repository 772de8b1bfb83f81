"""Paths into nested values: `event.level`, `items[0].name`, `labels."app.kubernetes.io/name"`.

A column of exactly the configured name always wins; only without one is the name a path.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Step = str | int
"""Key of an object, or place in a list, from 0."""
Path = tuple[Step, ...]

STEP = re.compile(r'(?:^|\.)(?:([^.\[\]"]+)|"([^"]+)")|\[(\d{1,9})\]')
PLAIN_KEY = re.compile(r"[^\W\d][\w-]{0,39}")
LOOKED_AT = 200
"""Nested values that are looked at for one with the name of a missing column."""
NAMED = 3
"""Columns that a hint names."""


class Repeated(Exception):
    """A key of the path stands in its object more than once."""


def parse_path(name: str) -> Path | None:
    """Return the steps of a path; None for a name that is no path of two steps or more."""
    steps: list[Step] = []
    place = 0
    while place < len(name):
        match = STEP.match(name, place)
        if match is None or (match[3] and not steps):
            return None
        steps.append(int(match[3]) if match[3] else match[1] or match[2])
        place = match.end()
    return tuple(steps) if len(steps) > 1 else None


def paths_of(names: Iterable[str]) -> dict[str, Path]:
    """Return the paths among names, by name."""
    found = ((name, parse_path(name)) for name in names)
    return {name: path for name, path in found if path is not None}


def shown(path: Sequence[Step]) -> str:
    """Return a path as it is configured."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            key = f'"{step}"' if set(step) & set(".[]") else step
            text += f".{key}" if text else key
    return text


MISSING = object()


def look_up(value: object, path: Path) -> object:
    """Return what a path leads to in a nested value, whose objects are tuples of pairs or mappings; else MISSING.

    A null on the way is a null. Raises Repeated.
    """
    for step in path:
        if value is None:
            return None
        if isinstance(step, int):
            if not isinstance(value, list) or step >= len(value):
                return MISSING
            value = value[step]
            continue
        if isinstance(value, dict):
            value = value.get(step, MISSING)
            continue
        if not isinstance(value, tuple):
            return MISSING
        found = [item for key, item in value if key == step]
        if len(found) > 1:
            raise Repeated
        if not found:
            return MISSING
        value = found[0]
    return value


def hint(column: str, paths: Iterable[str]) -> str:
    """Return half a sentence about namesakes of a missing column, or nothing."""
    near = namesakes(column, paths)[:NAMED]
    return f"; there is {' and '.join(map(repr, near))}" if near else ""


def namesakes(column: str, paths: Iterable[str]) -> list[str]:
    """Return the paths whose last key is that of a column, whatever its case and its signs."""
    wanted = _last(column)
    return [path for path in paths if _last(path) == wanted] if wanted else []


def _last(name: str) -> str:
    path = parse_path(name)
    keys = [step for step in path or (name,) if isinstance(step, str)]
    return "".join(filter(str.isalnum, keys[-1])).casefold()


def nested_names(value: Mapping[str, object]) -> Iterator[str]:
    """Yield the paths of the scalars in a record, the shallow ones first, of its first LOOKED_AT values.

    Keys that may be content rather than names (with blanks, digits in front, signs) are left out.
    """
    level: list[tuple[Path, Any]] = [((), tuple(value.items()))]
    looked = 0
    while level:
        below: list[tuple[Path, Any]] = []
        for path, inner in level:
            pairs = _pairs(inner)
            for step, item in pairs:
                looked += 1
                if looked > LOOKED_AT:
                    return
                if isinstance(step, str) and not PLAIN_KEY.fullmatch(step.replace(".", "_")):
                    continue
                if isinstance(item, (tuple, list, dict)):
                    below.append(((*path, step), item))
                else:
                    yield shown((*path, step)) if path else str(step)
        level = below


def _pairs(value: Any) -> Iterable[tuple[Step, Any]]:
    """Return the keys and values of an object, or the first element of a list."""
    if isinstance(value, dict):
        return value.items()
    return value if isinstance(value, tuple) else enumerate(value[:1])
