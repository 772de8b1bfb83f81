"""Composition of planned documents into the pieces of their texts, and into lines of JSON."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.corpus import plan as planned
from benchmarks.corpus.pieces import (
    AREA_CODES,
    AT,
    COLON,
    COMMA,
    COMMON_WORDS,
    DASH,
    DAYS,
    DOMAINS,
    END,
    NUMBERS,
    PARAGRAPH,
    QUESTION,
    SEMICOLON,
    SPACE,
    STOP,
    SUFFIXES,
    TERMS,
    TOP_LEVEL,
    WORDS,
    Pieces,
    accented,
    pieces,
)
from benchmarks.corpus.plan import Documents
from benchmarks.corpus.randomness import Ints, Words, below, hashed
from common.splitmix import GOLDEN, mix

QUANTILES = 1 << 18
ZIPF_SHIFT = 2.7
TOPIC_WORDS = 4096
"""A word in eight is drawn from the words of the document's class."""
HEADER_KEY, CHAIN_KEY, SERIAL_WORDS = 0x4EAD, 0xC4A1, 3
BEFORE_TEXT = 14
"""Pieces of a line before the text."""


@dataclass(frozen=True)
class Texts:
    """Pieces of the texts: those of document i are `pieces[offsets[i]:offsets[i + 1]]`."""

    pieces: npt.NDArray[np.int32]
    offsets: Ints


@cache
def word_quantiles() -> npt.NDArray[np.int32]:
    """Return words by quantile of the law of Zipf and Mandelbrot: p(rank) ~ 1 / (rank + 2.7)."""
    weights = 1 / (np.arange(1, COMMON_WORDS + 1) + ZIPF_SHIFT)
    bounds = np.cumsum(weights / weights.sum())
    found = np.searchsorted(bounds, (np.arange(QUANTILES) + 0.5) / QUANTILES)
    return np.minimum(found, COMMON_WORDS - 1).astype(np.int32)


@cache
def endings() -> npt.NDArray[np.int8]:
    """Return what follows a word, by a number of 8 bits: sentences have some 14 words, paragraphs five sentences."""
    parts = ((PARAGRAPH, 4), (STOP, 12), (QUESTION, 2), (COMMA, 18), (SEMICOLON, 2), (COLON, 2))
    table = np.full(256, SPACE, dtype=np.int8)
    first = 0
    for suffix, count in parts:
        table[first : first + count] = suffix
        first += count
    return table


def compose(documents: Documents) -> Texts:
    """Return the texts of some documents."""
    offsets = np.zeros(len(documents) + 1, dtype=np.int64)
    np.cumsum(documents.length, out=offsets[1:])
    document = np.repeat(np.arange(len(documents), dtype=np.int32), documents.length)
    place = np.arange(offsets[-1]) - offsets[:-1][document]
    seed, source = _sources(documents, document, place)
    drawn = mix(seed + (source.astype(np.uint64) + np.uint64(1)) * GOLDEN)
    terms = _terms(documents, document, place, drawn)
    forms = _forms(documents, document, drawn, offsets)
    found = forms.astype(np.int32) * np.int32(TERMS) + terms
    _put_serials(found, documents, offsets)
    _put_personal(found, documents, offsets)
    return Texts(found, offsets)


def _sources(documents: Documents, document: npt.NDArray[np.int32], place: Ints) -> tuple[Words, Ints]:
    """Return the source of each word: the seed of the base and the place there, or a seed of its own."""
    seed, source = documents.content[document], place.copy()
    operation = documents.operation.astype(np.int8)[document]
    edited = np.flatnonzero(operation > planned.REFORMED)
    if not len(edited):
        return seed, source
    what, of, at = operation[edited], document[edited], place[edited]
    start, end, target = documents.run_start[of, 0], documents.run_end[of, 0], documents.target[of]
    size = end - start
    in_run = (at >= start) & (at < end)
    own = ((what == planned.REPLACED) | (what == planned.INSERTED)) & in_run
    chance = documents.scattered[of]
    own |= (hashed(0x5CA7, at.astype(np.uint64) ^ documents.edit[of]) >> np.uint64(48)).astype(
        np.int64
    ) < chance
    moved = (what == planned.MOVED) & (at >= start) & (at < target)
    header = documents.header_length[of]
    from_base = at - header
    from_base += np.where((what == planned.DELETED) & (at >= start), size, 0)
    from_base -= np.where((what == planned.INSERTED) & (at >= end), size, 0)
    passed = target - end
    from_base += np.where(moved, np.where(at < start + passed, size, -passed), 0)
    source[edited] = np.where(own | (from_base < 0), at, from_base)
    seeds = np.where(own, documents.edit[of], documents.content[of])
    in_header = (what == planned.HEADED) & (at < header)
    seeds = np.where(in_header, hashed(HEADER_KEY, documents.header[of]), seeds)
    chained = what == planned.CHAINED
    for run in range(planned.RUNS):
        replaced = chained & (at >= documents.run_start[of, run]) & (at < documents.run_end[of, run])
        seeds = np.where(replaced, hashed(CHAIN_KEY + run, documents.content[of]), seeds)
    seed[edited] = seeds
    return seed, source


def _terms(
    documents: Documents, document: npt.NDArray[np.int32], place: Ints, drawn: Words
) -> npt.NDArray[np.int32]:
    terms = word_quantiles()[(drawn >> np.uint64(46)).view(np.int64)]
    in_text = np.ones(len(terms), dtype=bool)
    if documents.header_length.any():
        in_text = place >= documents.header_length[document]
    topical = np.flatnonzero(((drawn & np.uint64(7)) == 0) & in_text)
    of_class = documents.label[document[topical]] * 1_103
    terms[topical] = (terms[topical] + of_class) % TOPIC_WORDS
    if documents.accented.any():
        rows = np.flatnonzero(documents.accented[document] & in_text)
        terms[rows] = accented(terms[rows])
    return terms


def _forms(
    documents: Documents, document: npt.NDArray[np.int32], drawn: Words, offsets: Ints
) -> npt.NDArray[np.int8]:
    bits = (drawn >> np.uint64(8)).astype(np.uint8)
    other = np.flatnonzero(documents.operation == planned.REFORMED)
    for row in other.tolist():
        bits[offsets[row] : offsets[row + 1]] ^= np.uint8(int(documents.form[row]) % 255 + 1)
    suffix = endings()[bits]
    suffix[offsets[1:] - 1] = END
    ends = (suffix >= QUESTION) & (suffix <= PARAGRAPH)
    capital = np.empty(len(suffix), dtype=bool)
    capital[1:] = ends[:-1]
    capital[offsets[:-1]] = True
    suffix[capital] += np.int8(len(SUFFIXES))
    return suffix


def _put_serials(found: npt.NDArray[np.int32], documents: Documents, offsets: Ints) -> None:
    """Put the number of a short document in its middle, three digits a word."""
    rows = np.flatnonzero(documents.serial >= 0)
    first = offsets[rows] + (documents.length[rows] - SERIAL_WORDS) // 2
    number = documents.serial[rows]
    for word in range(SERIAL_WORDS):
        part = WORDS + number // NUMBERS ** (SERIAL_WORDS - 1 - word) % NUMBERS
        found[first + word] = part + found[first + word] // TERMS % len(SUFFIXES) * TERMS


def _put_personal(found: npt.NDArray[np.int32], documents: Documents, offsets: Ints) -> None:
    """Put an e-mail address, a telephone number or an IP address over a few words."""
    table = pieces()

    def number(drawn: Words, least: int, most: int) -> Ints:
        return WORDS + least + below(drawn, most - least + 1)

    for kind in range(len(planned.PERSONAL)):
        rows = np.flatnonzero(documents.personal == kind)
        content = documents.content[rows]
        draws = [hashed(0xDA7A + kind * 16 + part, content) for part in range(5)]
        first = offsets[rows] + 1 + below(draws[4], documents.length[rows] - 7)
        put: tuple[Ints, ...]
        if kind == planned.EMAIL:
            name, surname, domain = (below(draw, 4_000) for draw in draws[:3])
            top = table.top_level + below(draws[3], len(TOP_LEVEL))
            put = (name + END * TERMS, surname + AT * TERMS, domain + END * TERMS, top)
        elif kind == planned.PHONE:
            area = table.area + below(draws[0], len(AREA_CODES))
            line = table.line + below(draws[2], 10_000)
            put = (area, number(draws[1], 220, 989) + DASH * TERMS, line)
        else:
            parts = (
                number(draw, 100, most) for draw, most in zip(draws[:4], (223, 255, 255, 254), strict=True)
            )
            put = tuple(
                part + suffix * TERMS for part, suffix in zip(parts, (END, END, END, SPACE), strict=True)
            )
        for place, piece in enumerate(put):
            found[first + place] = piece


def token_ids(texts: Texts) -> npt.NDArray[np.int32]:
    """Return the token of each piece of a text, equal exactly where the tokens are."""
    found: npt.NDArray[np.int32] = pieces().token[texts.pieces]
    return found


def lines(records: Ints, documents: Documents, malformed: Ints) -> memoryview:
    """Return the JSON lines of some records; `malformed` is an entry of MALFORMED or -1."""
    texts = compose(documents)
    table = pieces()
    heads = np.empty((len(records), BEFORE_TEXT), dtype=np.int32)
    drawn = hashed(0x71AE, documents.content)
    other = hashed(0x71AF, documents.edit)
    for column, values in enumerate(
        (
            table.heads[0],
            *(table.digits + records // NUMBERS**power % NUMBERS for power in (3, 2, 1, 0)),
            table.heads[1],
            table.label + documents.label,
            table.heads[2],
            table.domain + below(drawn, DOMAINS),
            table.digits + below(other, NUMBERS),
            table.heads[3],
            table.day + below(other >> np.uint64(10), DAYS),
            table.minute + below(other >> np.uint64(20), 1440),
            table.second + below(other >> np.uint64(30), 60),
        )
    ):
        heads[:, column] = values
    return _lines(table, texts, heads, malformed)


def _lines(table: Pieces, texts: Texts, heads: npt.NDArray[np.int32], malformed: Ints) -> memoryview:
    count = len(heads)
    more = BEFORE_TEXT + 2  # with the opening and the closing of the text
    whole = np.empty(len(texts.pieces) + count * more, dtype=np.int32)
    begins = texts.offsets[:-1] + np.arange(count) * more
    whole[begins[:, None] + np.arange(BEFORE_TEXT)] = heads
    whole[begins + BEFORE_TEXT] = table.opening + 1 + malformed
    ends = texts.offsets[1:] + (np.arange(count) + 1) * more - 1
    whole[ends] = table.closing + 1 + malformed
    in_text = np.ones(len(whole), dtype=bool)
    in_text[(begins[:, None] + np.arange(BEFORE_TEXT + 1)).ravel()] = False
    in_text[ends] = False
    whole[in_text] = texts.pieces
    taken = pc.take(table.table, pa.array(whole))
    _, offsets, data = taken.buffers()
    return memoryview(data)[: memoryview(offsets).cast("i")[len(taken)]]
