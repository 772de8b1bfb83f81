"""Words of a batch of texts, found and hashed in numpy without a Python object for any of them.

A batch is one byte buffer. Only texts beyond ASCII are normalised one by one (common/words.py says what a word is).
Mixing function: the finaliser of SplitMix64, Steele, Lea and Flood (2014), "Fast splittable pseudorandom number
generators".
"""

import hashlib
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from common.splitmix import GOLDEN, mix
from common.words import CHARACTER, MARKS, SIGN, WORD, kind, normalise

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

LONG_TOKEN = 64  # bytes; longer tokens are rare and hashed one by one
SPACE = 32
# ASCII letters in lower case, digits, underscore and the bytes of other letters stay; all else separates tokens.
_FOLD = bytes(
    ord(chr(byte).lower())
    if byte < 128 and (chr(byte).isalnum() or byte == ord("_"))
    else byte & 0x80 and byte
    for byte in range(256)
).replace(b"\x00", b" ")
_LOW_BYTES = np.array([(1 << 8 * n) - 1 for n in range(9)], dtype=np.uint64)
_MASK64 = (1 << 64) - 1
_MULTIPLIER = np.uint64(0xD1342543DE82EF95)  # odd; combines the words of a window


@dataclass(frozen=True)
class Tokens:
    """Tokens of a batch: `buffer` holds their bytes; `offsets[i]` is the first token of text i."""

    buffer: npt.NDArray[np.uint8]
    starts: Ints
    lengths: Ints
    offsets: Ints

    def counts(self) -> Ints:
        return np.diff(self.offsets)

    def of_texts(self, keep: npt.NDArray[np.bool_]) -> "Tokens":
        """Return the tokens of the kept texts; the others then have none."""
        counts = self.counts()
        mask = np.repeat(keep, counts)
        return Tokens(
            self.buffer, self.starts[mask], self.lengths[mask], offsets_of(np.where(keep, counts, 0))
        )


@dataclass(frozen=True)
class Texts:
    """Batch of normalised texts as one buffer.

    `raw`: the texts in UTF-8 with a space before each and some after the last; those beyond ASCII are normalised, ASCII
    is as it came. `starts`: int64 (texts + 1,), the first byte of each text, and what would be that of one more.
    `letters`: as `raw`, with the bytes of words alone, in lower case, and spaces elsewhere. `beyond`: places of the
    bytes of signs beyond ASCII. `marks`: places of the marks that belong to words. `characters`: places where a
    character that is a word of its own begins, and `cuts`: those and where it ends.
    """

    raw: bytes
    starts: Ints
    letters: npt.NDArray[np.uint8]
    beyond: Ints
    marks: Ints
    characters: Ints
    cuts: Ints

    @classmethod
    def of(cls, texts: pa.Array) -> "Texts":
        """Normalise an Arrow array of strings (null counts as empty), at most 2 GB of them."""
        texts = pc.fill_null(texts.cast(pa.large_string()), "")
        beyond_ascii = _beyond_ascii(texts)
        if beyond_ascii.any():
            others = pa.array(beyond_ascii)
            normal = [normalise(text) for text in texts.filter(others).to_pylist()]
            texts = pc.replace_with_mask(texts, others, pa.array(normal, pa.large_string()))
        whole = pc.binary_join(
            pa.ListArray.from_arrays([0, len(texts)], texts), pa.scalar(" ", pa.large_string())
        )[0]
        raw = b"".join([b" ", whole.as_buffer(), b" " * 8])
        if beyond_ascii.any():
            for space in _FAR_SPACES:
                raw = raw.replace(space, b" " * len(space))
        starts = 1 + offsets_of(pc.binary_length(texts).to_numpy() + 1)
        letters = np.frombuffer(raw.translate(_FOLD), dtype=np.uint8)
        if not beyond_ascii.any():
            return cls(raw, starts, letters, _NOWHERE, _NOWHERE, _NOWHERE, _NOWHERE)
        return cls(raw, starts, *_sorted_out(np.frombuffer(raw, dtype=np.uint8), letters.copy()))


def _sorted_out(
    raw: npt.NDArray[np.uint8], letters: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint8], Ints, Ints, Ints, Ints]:
    """Return `letters`, `beyond`, `marks`, `characters` and `cuts` of Texts.

    At first all bytes beyond ASCII are letters.
    """
    places = np.flatnonzero(raw >= 0xC0)
    first = raw[places]
    sizes = 2 + (first >= 0xE0).astype(np.int64) + (first >= 0xF0)
    codes = first.astype(np.int64) & (0xFF >> (sizes + 1))
    for k in (1, 2, 3):
        codes = np.where(sizes > k, codes << 6 | (raw[places + k] & 0x3F), codes)
    kinds = _kinds(codes)
    # A mark belongs to the character before its run of marks.
    numbers = np.arange(len(places))
    adjoins = np.zeros(len(places), dtype=bool)
    adjoins[1:] = places[1:] == places[:-1] + sizes[:-1]
    is_mark = kinds == MARKS
    kinds[is_mark & ~adjoins] = np.where(letters[places[is_mark & ~adjoins] - 1] == SPACE, SIGN, WORD)
    bearers = np.maximum.accumulate(np.where(is_mark & adjoins, 0, numbers))
    is_sign = kinds[bearers] == SIGN
    beyond = np.sort(np.concatenate([places[is_sign & (sizes > k)] + k for k in range(4)]))
    letters[beyond] = SPACE
    own = numbers[kinds == CHARACTER]
    last = np.searchsorted(bearers, own, side="right") - 1
    characters = places[own]
    return (
        letters,
        beyond,
        places[is_mark & ~is_sign],
        characters,
        np.union1d(characters, places[last] + sizes[last]),
    )


_FAR_SPACES = [space.encode() for space in "\x85\u1680\u2028\u2029"]
"""White space beyond ASCII that NFKC leaves."""
_NOWHERE: Ints = np.zeros(0, dtype=np.int64)
_UNKNOWN = 255
_KINDS = np.full(sys.maxunicode + 1, _UNKNOWN, dtype=np.uint8)


def _kinds(codes: Ints) -> npt.NDArray[np.uint8]:
    """Return the kind of each character (`common.words.kind`); each is looked up once in a process."""
    found = _KINDS[codes]
    if (found == _UNKNOWN).any():
        for code in np.unique(codes[found == _UNKNOWN]).tolist():
            _KINDS[code] = kind(chr(code))
        found = _KINDS[codes]
    return found


def offsets_of(counts: npt.NDArray[Any]) -> Ints:
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def tokenise(texts: pa.Array) -> Tokens:
    """Find the tokens of an Arrow array of strings (null counts as empty)."""
    return find_tokens(Texts.of(texts))


def find_tokens(texts: Texts) -> Tokens:
    """Find the tokens of a batch."""
    is_word = texts.letters != SPACE
    edges = np.flatnonzero(is_word[1:] != is_word[:-1]) + 1
    starts, ends = edges[0::2], edges[1::2]
    if len(texts.cuts):
        inside = texts.cuts[is_word[texts.cuts] & is_word[texts.cuts - 1]]
        starts, ends = np.sort(np.concatenate((starts, inside))), np.sort(np.concatenate((ends, inside)))
    offsets = np.searchsorted(starts, texts.starts).astype(np.int64)
    return Tokens(texts.letters, starts, ends - starts, offsets)


def _beyond_ascii(texts: pa.LargeStringArray) -> npt.NDArray[np.bool_]:
    """Mark texts with non-ASCII characters, on one core several times as fast as Arrow's string_is_ascii."""
    offsets = np.frombuffer(texts.buffers()[1], dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    high = np.flatnonzero(np.frombuffer(texts.buffers()[2] or b"", dtype=np.uint8) >= 128)
    beyond: npt.NDArray[np.bool_] = np.diff(np.searchsorted(high, offsets)) > 0
    return beyond


def token_hashes(tokens: Tokens) -> Words:
    """Return a 64-bit hash of each token's bytes, eight bytes a step; shape (tokens,), dtype uint64."""
    buffer, starts, lengths = tokens.buffer, tokens.starts, tokens.lengths
    eights: Words = np.ndarray((len(buffer) - 7,), dtype="<u8", buffer=buffer, strides=(1,))
    hashes: Words = eights[starts] & _LOW_BYTES[np.minimum(lengths, 8)]
    hashes ^= lengths.astype(np.uint64) * GOLDEN
    mix(hashes)
    rest = np.flatnonzero(lengths > 8)
    done = 8
    while done < LONG_TOKEN and len(rest):
        left = np.minimum(lengths[rest] - done, 8)
        hashes[rest] = mix(hashes[rest] ^ (eights[starts[rest] + done] & _LOW_BYTES[left]))
        done += 8
        rest = rest[lengths[rest] > done]
    for index in rest.tolist():
        start = starts[index]
        digest = hashlib.blake2b(buffer[start : start + lengths[index]].tobytes(), digest_size=8).digest()
        hashes[index] = int.from_bytes(digest, "little")
    return hashes


def fold(tokens: Words, first: Ints | slice, size: int) -> Words:
    """Hash the windows of `size` words that begin at `first`; uint64 (windows,)."""
    last = len(tokens) - size + 1
    place = (lambda j: slice(j, last + j)) if isinstance(first, slice) else (lambda j: first + j)
    window = tokens[place(0)].copy()
    for j in range(1, size):
        window *= _MULTIPLIER
        window += tokens[place(j)]
    window += np.uint64(size * int(GOLDEN) & _MASK64)
    return mix(window)
