"""Hash chains: whatever is done to an entry breaks the chain at it or at the one behind."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from common.errors import DataError
from provenance.chain import ChainLink, verified


@dataclass(frozen=True)
class Entry:
    number: int
    previous: str | None
    hash: str = ""

    def sealed(self) -> "Entry":
        return replace(self, hash=self.computed())

    def computed(self) -> str:
        return hashlib.sha256(f"{self.number} {self.previous}".encode()).hexdigest()


def link(entry: Entry) -> ChainLink:
    return ChainLink(entry.number, entry.previous, entry.hash, entry.computed())


def chained(*numbers: int, first: str | None = None) -> list[Entry]:
    entries: list[Entry] = []
    for number in numbers:
        entries.append(Entry(number, entries[-1].hash if entries else first).sealed())
    return entries


@pytest.mark.parametrize("first", [None, "0" * 64])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_whole_chain_passes_and_so_does_each_beginning(first: str | None, count: int) -> None:
    entries = chained(*range(count), first=first)
    for end in range(count + 1):
        assert list(verified(entries[:end], link, "it", first)) == entries[:end]


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (lambda e: [e[0], replace(e[1], number=7), *e[2:]], 2, "was altered"),
        (lambda e: [e[0], replace(e[1], hash="f" * 64), *e[2:]], 2, "was altered"),
        (lambda e: [e[0], replace(e[1], number=7).sealed(), *e[2:]], 3, "does not follow"),
        (lambda e: e[1:], 1, "does not follow"),
        (lambda e: [*e[:2], *e[3:]], 3, "does not follow"),
        (lambda e: [*e[:2], e[1], *e[2:]], 3, "does not follow"),
        (lambda e: [e[0], e[2], e[1], e[3]], 2, "does not follow"),
        (lambda e: [*e, Entry(3, e[-1].hash).sealed()], 5, "goes back from number 3 to 3"),
    ],
)
def test_the_first_break_is_named(
    change: Callable[[list[Entry]], list[Entry]], line: int, message: str
) -> None:
    entries = change(chained(*range(4)))
    chain = verified(entries, link, "it")
    assert [next(chain) for _ in range(line - 1)] == entries[: line - 1]
    with pytest.raises(DataError, match=f"line {line} of it {message}"):
        next(chain)
