"""A hash chain: each entry holds the hash of the one before it, which its own hash covers.

No entry can then be altered, removed or inserted without the chain breaking there or at the next one. Only entries at
its end can be cut off unseen.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from common.errors import DataError

Entry = TypeVar("Entry")


class Link(NamedTuple):
    """An entry as a link of its chain."""

    number: int
    """Rises from entry to entry."""
    previous: str | None
    """The hash of the entry before."""
    hash: str
    """The one that the entry states."""
    computed: str
    """The one that its content has."""


def verified(
    entries: Iterable[Entry], link: Callable[[Entry], Link], name: str, first: str | None = None
) -> Iterator[Entry]:
    """The entries of a chain in their order; `first` is what the first has as `previous`.

    Raises DataError naming `name` and the line, counted from 1, where the chain breaks.
    """
    before: Link | None = None
    for line, entry in enumerate(entries, 1):
        found, where = link(entry), f"line {line:,} of {name}"
        if found.computed != found.hash:
            raise DataError(f"{where} was altered: its content does not have the hash {found.hash}")
        if found.previous != (first if before is None else before.hash):
            raise DataError(f"{where} does not follow the line before: one was altered, removed or inserted")
        if before is not None and found.number <= before.number:
            raise DataError(f"{where} goes back from number {before.number:,} to {found.number:,}")
        before = found
        yield entry
