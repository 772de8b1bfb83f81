"""Kernel of the duplicate finder: from texts to hashes of their shingles and to MinHash bands, in numpy.

Tokens are maximal runs of `\\w` in the NFKC-normalised, case-folded text; shingles are windows of consecutive
tokens (a text with fewer tokens than a window is one shingle). A batch of texts is one byte buffer: tokens are
found, hashed and combined without a Python object for any of them.

MinHash: Broder (1997), "On the resemblance and containment of documents". Mixing function: the finaliser of
SplitMix64, Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators".
"""

import hashlib
import math
import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from common.errors import UsageError

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

MISSED = 2e-5  # the share of pairs at the configured similarity that no band may bring together
MOST_HASHES = 160
MOST_BANDS = 1024
CACHED_SHINGLES = 1 << 15  # a chunk of 32-bit values that stays in the second-level cache
LONG_TOKEN = 64  # bytes; longer tokens are rare and hashed one by one
SPACE = 32
MASK64 = (1 << 64) - 1

_NOT_ASCII_NOR_WORD = re.compile(r"[^\x00-\x7f\w]+")  # in this order: ASCII characters are decided at once
# ASCII letters in lower case, digits, underscore and the bytes of other letters stay; all else separates tokens.
_FOLD = bytes(
    ord(chr(byte).lower())
    if byte < 128 and (chr(byte).isalnum() or byte == ord("_"))
    else byte & 0x80 and byte
    for byte in range(256)
).replace(b"\x00", b" ")
_LOW_BYTES = np.array([(1 << 8 * n) - 1 for n in range(9)], dtype=np.uint64)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIER = np.uint64(0xD1342543DE82EF95)  # odd; combines the tokens of a shingle


@dataclass(frozen=True)
class Banding:
    """Division of MinHash values into `bands` keys of `rows` values each."""

    bands: int
    rows: int

    @classmethod
    def for_similarity(cls, similarity: float) -> "Banding":
        """Return the most selective banding of at most MOST_HASHES values that misses at most MISSED of the similar
        pairs.

        A pair of Jaccard similarity s shares a band with probability 1 - (1 - s^rows)^bands: 28 x 5 at 0.8. Raises
        UsageError where even bands of one value would be too many.
        """
        best = None
        for rows in range(1, 17):
            agree = similarity**rows
            bands = 1 if agree >= 1 else math.ceil(math.log(MISSED) / math.log1p(-agree))
            if rows == 1 and bands > MOST_BANDS:
                raise UsageError(
                    f"deduplicate.similarity = {similarity} is too low to find near-duplicates by hashes: "
                    f"it would take {bands:,} of them for a text; give 0.05 or more"
                )
            if best is None or bands * rows <= MOST_HASHES:
                best = cls(bands, rows)
        assert best is not None
        return best

    def recall(self, similarity: float) -> float:
        """Return the probability that two texts of this similarity share at least one band."""
        return float(1 - (1 - similarity**self.rows) ** self.bands)


@dataclass(frozen=True)
class Sketches:
    """Sketches of a batch of n texts, as the duplicate finder keeps them.

    `text_hash`: n digests of 16 bytes, equal exactly where the token sequences are. `sketch_owner`: bool (n,), false
    for a text that is known to have been sketched before; those have no shingles and bands. `values`, `offsets`:
    int64; the sorted distinct shingle hashes of text i are values[offsets[i]:offsets[i + 1]]. `bands`: int64 (m,
    bands) for the m texts with shingles, in order.
    """

    text_hash: list[bytes]
    sketch_owner: npt.NDArray[np.bool_]
    values: Ints
    offsets: Ints
    bands: Ints


def mix(words: Words) -> Words:
    """Spread every bit over all 64, in place; a bijection."""
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def _constants(stream: int, count: int) -> Words:
    """Return `count` fixed pseudo-random words, uint64; another stream gives others."""
    numbers = np.arange(1, count + 1, dtype=np.uint64) + (np.uint64(stream) << np.uint64(32))
    return mix(numbers * _GOLDEN)


def normalise(text: str) -> str:
    """Return the text whose runs of `\\w` are its tokens."""
    return unicodedata.normalize("NFKC", text).casefold()


@dataclass(frozen=True)
class _Tokens:
    """Tokens of a batch: `buffer` holds them between spaces; `offsets[i]` is the first token of text i."""

    buffer: npt.NDArray[np.uint8]
    starts: Ints
    lengths: Ints
    offsets: Ints

    def counts(self) -> Ints:
        return np.diff(self.offsets)

    def of_texts(self, keep: npt.NDArray[np.bool_]) -> "_Tokens":
        """Return the tokens of the kept texts; the others then have none."""
        counts = self.counts()
        mask = np.repeat(keep, counts)
        return _Tokens(
            self.buffer, self.starts[mask], self.lengths[mask], _offsets(np.where(keep, counts, 0))
        )


def _offsets(counts: npt.NDArray[Any]) -> Ints:
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def tokenise(texts: pa.Array) -> _Tokens:
    """Find the tokens of an Arrow array of strings (null counts as empty), at most 2 GB of them."""
    texts = pc.fill_null(texts.cast(pa.large_string()), "")
    beyond_ascii = _beyond_ascii(texts)
    if beyond_ascii.any():
        others = pa.array(beyond_ascii)
        # Once other non-word characters are gone, every byte above 127 belongs to a word.
        folded = [_NOT_ASCII_NOR_WORD.sub(" ", normalise(text)) for text in texts.filter(others).to_pylist()]
        texts = pc.replace_with_mask(texts, others, pa.array(folded, pa.large_string()))
    lengths = pc.binary_length(texts).to_numpy()
    whole = pc.binary_join(
        pa.ListArray.from_arrays([0, len(texts)], texts), pa.scalar(" ", pa.large_string())
    )[0]
    text_bytes = whole.as_buffer().to_pybytes()
    buffer = np.frombuffer(b"".join([b" ", text_bytes.translate(_FOLD), b" " * 8]), dtype=np.uint8)
    is_word = buffer != SPACE
    edges = np.flatnonzero(is_word[1:] != is_word[:-1]) + 1
    starts, ends = edges[0::2], edges[1::2]
    text_starts = 1 + _offsets(lengths + 1)
    return _Tokens(buffer, starts, ends - starts, np.searchsorted(starts, text_starts).astype(np.int64))


def _beyond_ascii(texts: pa.LargeStringArray) -> npt.NDArray[np.bool_]:
    """Mark texts with non-ASCII characters, on one core several times as fast as Arrow's string_is_ascii."""
    offsets = np.frombuffer(texts.buffers()[1], dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    high = np.flatnonzero(np.frombuffer(texts.buffers()[2] or b"", dtype=np.uint8) >= 128)
    beyond: npt.NDArray[np.bool_] = np.diff(np.searchsorted(high, offsets)) > 0
    return beyond


def sequence_hashes(tokens: _Tokens) -> list[bytes]:
    """Return 128 bits (BLAKE2b, RFC 7693) of each text's token sequence: the tokens in UTF-8, a space after each."""
    is_word = tokens.buffer != SPACE
    is_word[1:] |= is_word[:-1].copy()
    collapsed = memoryview(tokens.buffer[is_word].tobytes())
    ends = _offsets(tokens.lengths + 1)[tokens.offsets].tolist()
    blake2b = hashlib.blake2b
    return [blake2b(collapsed[start:end], digest_size=16).digest() for start, end in pairwise(ends)]


def token_hashes(tokens: _Tokens) -> Words:
    """Return a 64-bit hash of each token's bytes, eight bytes a step; shape (tokens,), dtype uint64."""
    buffer, starts, lengths = tokens.buffer, tokens.starts, tokens.lengths
    eights: Words = np.ndarray((len(buffer) - 7,), dtype="<u8", buffer=buffer, strides=(1,))
    hashes: Words = eights[starts] & _LOW_BYTES[np.minimum(lengths, 8)]
    hashes ^= lengths.astype(np.uint64) * _GOLDEN
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


def _fold(tokens: Words, first: Ints | slice, size: int) -> Words:
    """Hash the windows of `size` tokens that begin at `first`."""
    last = len(tokens) - size + 1
    place = (lambda j: slice(j, last + j)) if isinstance(first, slice) else (lambda j: first + j)
    window = tokens[place(0)].copy()
    for j in range(1, size):
        window *= _MULTIPLIER
        window += tokens[place(j)]
    window += np.uint64(size * int(_GOLDEN) & MASK64)
    return mix(window)


def shingle_sets(tokens: _Tokens, shingle: int) -> tuple[Ints, Ints]:
    """Return the sorted distinct 64-bit hashes of each text's shingles: (values, offsets), both int64."""
    hashes, counts = token_hashes(tokens), tokens.counts()
    sizes = np.where(counts >= shingle, counts - shingle + 1, np.minimum(counts, 1))
    offsets = _offsets(sizes)
    values = np.empty(offsets[-1], dtype=np.uint64)
    whole = counts >= shingle
    if whole.any():
        # A window that began nearer to the end of its text would reach into the next one.
        inside = np.repeat(tokens.offsets[1:], counts) - np.arange(len(hashes)) >= shingle
        windows = _fold(hashes, slice(None), shingle)
        values[np.repeat(whole, sizes)] = windows[inside[: len(windows)]]
    for size in np.unique(counts[(counts > 0) & ~whole]).tolist():
        short = np.flatnonzero(counts == size)
        values[offsets[short]] = _fold(hashes, tokens.offsets[short], size)
    return distinct_sorted(values.view(np.int64), offsets)


def distinct_sorted(values: Ints, offsets: Ints) -> tuple[Ints, Ints]:
    """Sort each list values[offsets[i]:offsets[i + 1]] (in place), and return the lists without repetitions."""
    bounds = offsets.tolist()
    for start, end in pairwise(bounds):
        values[start:end].sort()
    fresh = np.ones(len(values), dtype=bool)
    fresh[1:] = values[1:] != values[:-1]
    starts = offsets[:-1]
    fresh[starts[starts < len(values)]] = True
    kept = np.concatenate(([0], np.cumsum(fresh)))
    return values[fresh], kept[offsets].astype(np.int64)


def minhash(values: Ints, offsets: Ints, count: int) -> npt.NDArray[np.uint32]:
    """Return `count` MinHash values of each set; shape (count, sets), dtype uint32. No set may be empty.

    Permutation i takes x to a_i·x modulo 2^32 with a_i odd, x being the upper half of a shingle's hash. As the x are
    hashes already, adding a constant would make no permutation more random.
    """
    halves = (values.view(np.uint64) >> np.uint64(32)).astype(np.uint32)
    factors = (_constants(1, count) >> np.uint64(32)).astype(np.uint32) | np.uint32(1)
    result = np.empty((count, len(offsets) - 1), dtype=np.uint32)
    first = 0
    while first < len(offsets) - 1:
        end = int(np.searchsorted(offsets, offsets[first] + CACHED_SHINGLES, side="right")) - 1
        end = max(end, first + 1)
        chunk = halves[offsets[first] : offsets[end]]
        starts = offsets[first:end] - offsets[first]
        permuted = np.empty_like(chunk)
        for i in range(count):
            np.multiply(chunk, factors[i], out=permuted)
            np.minimum.reduceat(permuted, starts, out=result[i, first:end])
        first = end
    return result


def band_keys(values: Ints, offsets: Ints, banding: Banding) -> Ints:
    """Return the LSH bucket keys of each set, shape (sets, bands), dtype int64; no set may be empty.

    Bands share no keys.
    """
    hashes = minhash(values, offsets, banding.bands * banding.rows)
    keys = np.empty((len(offsets) - 1, banding.bands), dtype=np.int64)
    for band, start in enumerate(_constants(3, banding.bands)):
        key = np.full(hashes.shape[1], start, dtype=np.uint64)
        for row in range(band * banding.rows, (band + 1) * banding.rows):
            key = mix(key ^ hashes[row])
        keys[:, band] = key.view(np.int64)
    return keys


def sketch(texts: pa.Array, shingle: int, banding: Banding, seen: set[bytes]) -> Sketches:
    """Sketch a batch of texts.

    Texts whose hash is in `seen`, or appears earlier in the batch, get no shingles; the others' hashes are added to
    it.
    """
    tokens = tokenise(texts)
    text_hash = sequence_hashes(tokens)
    sketch_owner = np.zeros(len(text_hash), dtype=bool)
    for i, digest in enumerate(text_hash):
        if digest not in seen:
            seen.add(digest)
            sketch_owner[i] = True
    values, offsets = shingle_sets(tokens.of_texts(sketch_owner), shingle)
    filled = np.diff(offsets) > 0
    bands = band_keys(values, np.append(offsets[:-1][filled], offsets[-1]), banding)
    return Sketches(text_hash, sketch_owner, values, offsets, bands)
