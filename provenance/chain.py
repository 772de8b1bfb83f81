"""Hash chain: each entry holds the hash of its predecessor, and its own hash covers that.

Altering, removing or inserting an entry breaks the chain there or at the next entry. Only a cut at the end goes
unnoticed.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from common.errors import DataError

Entry = TypeVar("Entry")


class ChainLink(NamedTuple):
    """Entry as a link of its chain."""

    number: int
    """Increases from entry to entry."""
    previous: str | None
    """Hash of the preceding entry."""
    hash: str
    """Hash that the entry states."""
    computed: str
    """Hash computed from the entry's content."""


def verified(
    entries: Iterable[Entry], link: Callable[[Entry], ChainLink], name: str, first: str | None = None
) -> Iterator[Entry]:
    """Yield the entries of a chain in order; `first` is the `previous` of the first entry.

    Raises DataError naming `name` and the line, counted from 1, where the chain breaks.
    """
    before: ChainLink | None = None
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
