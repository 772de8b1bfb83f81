"""Words for messages and reports."""

import difflib
from collections.abc import Iterable


def counted(count: int, singular: str, plural: str = "") -> str:
    """Return a number with its noun: `1 file`, `1,200 files`."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def extra(name: str) -> str:
    """Return what installs an optional part of ringlake: of that name, or exactly its lock."""
    return f'pip install "ringlake[{name}]", or its lock: pip install --no-deps -r requirements/{name}.txt'


def rounded(value: float) -> str:
    """Return a number with three decimals, or five digits of a large one: `0.012`, `6,208.8`, `257,674`, `1.5e+09`."""
    size = abs(value)
    if size >= 1e8:
        return f"{value:.5g}"
    return f"{value:,.{sum(size < limit for limit in (100, 1_000, 10_000))}f}"


def printable(text: str, longest: int | None = None) -> str:
    """Return a text as it can stand in a line: escapes for what does not print, at most `longest` characters."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return shown if longest is None or len(shown) <= longest else shown[: longest - 1] + "…"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return a guess at a misspelt name in brackets, after a space; empty where none is near."""
    near = difflib.get_close_matches(str(name), list(known), 1)
    return f" (did you mean {near[0]!r}?)" if near else ""
