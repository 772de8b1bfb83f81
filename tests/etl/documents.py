"""Texts with planted duplicates, the definition of a duplicate in plain Python, and a small silver/fields."""

import random
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake
from scipy.sparse import csr_array

from common.words import UNSPACED
from schemas.config import Configuration
from schemas.tables import Layout, fields_schema


def form(text: str) -> str:
    """Return what exact duplicates have in common."""
    return " ".join(folded(text).split())


@dataclass
class Piece:
    """Word, run of signs, or character that is a word of its own, at a place of the normalised text."""

    kind: str
    start: int
    text: str

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def folded(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


@lru_cache(10_000)
def pieces(text: str) -> tuple[Piece, ...]:
    found: list[Piece] = []
    for place, character in enumerate(folded(text)):
        last = found[-1] if found and found[-1].end == place else None
        kind = "sign"
        if character.isalnum() or character == "_":
            kind = "word"
            if any(first <= ord(character) <= final for first, final in UNSPACED):
                kind = "character"
        if character.isspace():
            continue
        if last is not None and (
            unicodedata.category(character)[0] == "M" or (last.kind == kind and kind != "character")
        ):
            last.text += character
        else:
            found.append(Piece(kind, place, character))
    return tuple(found)


def tokens(text: str) -> tuple[str, ...]:
    return tuple(piece.text for piece in pieces(text) if piece.kind != "sign")


def is_numeral(piece: Piece) -> bool:
    return piece.kind == "character" and unicodedata.numeric(piece.text[0], None) is not None


@lru_cache(10_000)
def signs(text: str, below: int = 50) -> frozenset[tuple[Any, int]] | None:
    """Return the runs of signs of a short text in their order with the words beside them, its words with marks and how
    often each is, and all of its words where four in a row occur twice.

    None for a longer text.
    """
    words = tokens(text)
    if not 0 < len(words) < below:
        return None
    found: Counter[tuple[Any, ...]] = Counter()
    fours = [words[place : place + 4] for place in range(len(words) - 3)]
    if len(set(fours)) < len(fours):
        found[words] += 1
    left, number, several = "", 0, (Piece("space", -1, ""), *pieces(text), Piece("space", 1 << 40, ""))
    for i, piece in enumerate(several[1:-1], 1):
        before, after = several[i - 1], several[i + 1]
        if piece.kind != "sign":
            left = piece.text
            if any(unicodedata.category(character)[0] == "M" for character in piece.text):
                found["", piece.text, "", -1] += 1
            continue
        ends_a_word = before.kind in ("word", "character") and before.end == piece.start
        is_stop = piece.text in tuple(".,،۔।、。") and ends_a_word
        is_point = piece.text in (".", ",") and after.start == piece.end
        ends_number = before.text[-1:] in tuple("0123456789") or is_numeral(before)
        in_number = is_point and (after.text[0] in "0123456789" or (ends_number and is_numeral(after)))
        ends = after.start > piece.end or "character" in (before.kind, after.kind)
        if is_stop and ends and not in_number:
            continue
        right = next((other.text for other in several[i:] if other.kind in ("word", "character")), "")
        found[left, piece.text, right, number] += 1
        number += 1
    return frozenset(found.items())


def alike(one: str, other: str) -> bool:
    """Tell whether the signs of two texts let them be near-duplicates."""
    return None in (signs(one), signs(other)) or signs(one) == signs(other)


def shingles(text: str, size: int = 5) -> set[tuple[str, ...]]:
    words = tokens(text)
    if len(words) < size:
        return {words} if words else set()
    return {words[i : i + size] for i in range(len(words) - size + 1)}


def jaccard(one: set[Any], other: set[Any]) -> float:
    union = len(one | other)
    return len(one & other) / union if union else 0.0


def partition(items: Sequence[Hashable], edges: Iterable[tuple[Any, Any]]) -> set[frozenset[Any]]:
    """Return the connected components, in the simplest possible way."""
    group = {item: {item} for item in items}
    for one, other in edges:
        if group[one] is not group[other]:
            group[one] |= group[other]
            for member in group[other]:
                group[member] = group[one]
    return {frozenset(members) for members in group.values()}


def clusters_of(texts: Sequence[str], similarity: float = 0.8) -> set[frozenset[int]]:
    """Cluster texts by comparing every two of them; return sets of their indices."""
    sets, forms = [shingles(text) for text in texts], [form(text) for text in texts]
    edges = [
        (i, j)
        for i in range(len(texts))
        for j in range(i)
        if forms[i] == forms[j] or (jaccard(sets[i], sets[j]) >= similarity and alike(texts[i], texts[j]))
    ]
    return partition(range(len(texts)), edges)


def similar_pairs(texts: Sequence[str], similarity: float = 0.8) -> list[tuple[int, int]]:
    """Return all pairs of indices, i < j, of near-duplicates: Jaccard similarity and signs.

    The sets are those of `shingles`; the common elements of every two sets are counted exactly.
    """
    numbers: dict[Any, int] = {}
    sets = [sorted({numbers.setdefault(one, len(numbers)) for one in shingles(text)}) for text in texts]
    sizes = np.array([len(one) for one in sets])
    elements = np.array([number for one in sets for number in one], dtype=np.int64)
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    ones = np.ones(len(elements), dtype=np.int32)
    matrix = csr_array((ones, elements, offsets), shape=(len(sets), len(numbers)))
    by_element, found = matrix.T.tocsr(), []
    for begin in range(0, len(sets), 500):  # so that the table of common elements stays small
        common = (matrix[begin : begin + 500] @ by_element).tocoo()
        row, column = common.coords
        row = row + begin
        similar = common.data / (sizes[row] + sizes[column] - common.data) >= similarity
        similar &= row < column
        found += list(zip(row[similar].tolist(), column[similar].tolist(), strict=True))
    return [(i, j) for i, j in found if alike(texts[i], texts[j])]


def prose(rng: random.Random, words: int) -> list[str]:
    return [f"w{rng.randrange(50_000)}" for _ in range(words)]


def edited(rng: random.Random, words: Sequence[str], share: float) -> list[str]:
    """Return the words with `share` of them replaced by others."""
    places = set(rng.sample(range(len(words)), round(share * len(words))))
    return [f"e{rng.randrange(10**9)}" if i in places else word for i, word in enumerate(words)]


def planted(seed: int = 3) -> list[str]:
    """Return texts with edits of 1–15%, moved paragraphs, a shared header, chains, copies, and short texts."""
    rng = random.Random(seed)
    texts = []
    for _ in range(12):
        words = prose(rng, rng.randrange(30, 200))
        texts.append(" ".join(words))
        texts += [" ".join(edited(rng, words, percent / 100)) for percent in (1, 2, 3, 5, 8, 15)]
        middle = len(words) // 2
        texts.append(" ".join(words[middle:] + words[:middle]))
        texts.append(", ".join(words).upper())
    header = prose(rng, 80)
    texts += [" ".join(header + prose(rng, 30)) for _ in range(90)]
    chain = prose(rng, 100)
    for _ in range(12):
        texts.append(" ".join(chain))
        chain = [*chain[7:], *prose(rng, 7)]
    texts += ["", "!", "…", "MIT", "mit.", "MIT License", "ＭＩＴ license", "Straße", "STRASSE"]
    return texts


def headed(rng: random.Random, count: int, header: int, least: int, most: int) -> list[str]:
    """Return different texts that begin with the same `header` words; each has `least` to `most` words of its own."""
    words = prose(rng, header)
    return [" ".join(words + prose(rng, rng.randint(least, most))) for _ in range(count)]


def near_copies(rng: random.Random, count: int, least: float, most: float) -> list[str]:
    """Return a text of 150 words, and `count` copies with a share of `least` to `most` of its words edited."""
    words = prose(rng, 150)
    return [" ".join(words), *(" ".join(edited(rng, words, rng.uniform(least, most))) for _ in range(count))]


def alternatives(rng: random.Random, count: int) -> list[str]:
    """Return forms of one text, each with 4 of 150 words replaced by one of three alternatives, often shared."""
    words = prose(rng, 150)
    texts = []
    for _ in range(count):
        form = list(words)
        for place in rng.sample(range(len(words)), 4):
            form[place] = f"alternative{rng.randrange(3)}"
        texts.append(" ".join(form))
    return texts


def clauses(rng: random.Random, count: int) -> list[str]:
    """Return texts of 12 of the same 16 paragraphs, in their order."""
    paragraphs = [" ".join(prose(rng, 15)) for _ in range(16)]
    return [" ".join(paragraphs[i] for i in sorted(rng.sample(range(16), 12))) for _ in range(count)]


SKEWED = {
    "one header": lambda rng, count: headed(rng, count, 130, 50, 50),
    "one header before texts of any length": lambda rng, count: headed(rng, count, 130, 5, 60),
    "one header before longer texts": lambda rng, count: headed(rng, count, 130, 17, 60),
    "copies with 0.5-2% edited": lambda rng, count: near_copies(rng, count, 0.005, 0.02),
    "copies with 1-15% edited": lambda rng, count: near_copies(rng, count, 0.01, 0.15),
    "alternatives": alternatives,
    "clauses": clauses,
}
"""Texts that share large buckets but are mostly no near-duplicates: `SKEWED[name](rng, approximate number)`."""


def configuration(folder: Path, **sections: Any) -> Configuration:
    document = {
        "dataset": {"name": "example", "root": str(folder)},
        "source": [{"format": "jsonl", "path": "in/*.jsonl"}],
        "columns": {},
        "feature": [{"name": "tokens", "column": "text"}],
    }
    return Configuration.model_validate(document | sections)


def write_fields(config: Configuration, rows: Sequence[dict[str, Any]], files: int = 1) -> None:
    """Write silver/fields from rows of at least record_id and text, in `files` files."""
    schema = fields_schema(config)
    base = dict.fromkeys(schema.names) | {
        "source_index": 0,
        "source_path": "a",
        "source_position": 0,
    }
    table = pa.Table.from_pylist([base | row for row in rows], schema=schema)
    location = Layout.of(config).fields
    for i in range(files):
        part = table.take(pa.array(range(i, len(rows), files), pa.int64()))
        write_deltalake(location, part, mode="append" if i else "overwrite")
