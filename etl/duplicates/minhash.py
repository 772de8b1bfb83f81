"""Kernel of the duplicate finder: from texts to hashes of their shingles and to MinHash bands, in numpy.

Tokens are the words of common/words.py: runs of `\\w` in the NFKC-normalised, case-folded text, and in scripts without
white space single characters. Shingles are windows of consecutive tokens (a text with fewer tokens than a window is
one shingle).

MinHash: Broder (1997), "On the resemblance and containment of documents".
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from common.errors import UsageError
from common.splitmix import GOLDEN, mix
from etl.duplicates.equality import ALL_FOLDED, Equality, exact_hashes, sign_hashes
from etl.duplicates.hash_lists import owners
from etl.duplicates.tokens import (
    Ints,
    Texts,
    Tokens,
    Words,
    find_tokens,
    fold,
    offsets_of,
    token_hashes,
)

MISSED = 2e-5  # the share of pairs at the configured similarity that no band may bring together
MOST_HASHES = 160
MOST_BANDS = 1024
CACHED_SHINGLES = 1 << 15  # a chunk of 32-bit values that stays in the second-level cache


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

    `content_hash`: n digests of 16 bytes, equal exactly for exact duplicates (etl/duplicates/equality.py).
    `sketch_owner`: bool (n,), false for a text that is known to have been sketched before; those have no signs,
    shingles and bands.
    `signs`: int64 (n,), what two short texts must have in common to be near-duplicates, 0 for others. `values`,
    `offsets`: int64; the sorted distinct shingle hashes of text i are values[offsets[i]:offsets[i + 1]]. `bands`:
    int64 (m, bands) for the m texts with shingles, in order.
    """

    content_hash: list[bytes]
    sketch_owner: npt.NDArray[np.bool_]
    signs: Ints
    values: Ints
    offsets: Ints
    bands: Ints


def _constants(stream: int, count: int) -> Words:
    """Return `count` fixed pseudo-random words, uint64; another stream gives others."""
    numbers = np.arange(1, count + 1, dtype=np.uint64) + (np.uint64(stream) << np.uint64(32))
    return mix(numbers * GOLDEN)


def shingle_sets(tokens: Tokens, shingle: int, hashes: Words | None = None) -> tuple[Ints, Ints]:
    """Return the sorted distinct 64-bit hashes of each text's shingles: (values, offsets), both int64.

    `hashes`: those of the tokens, where they are known.
    """
    hashes, counts = token_hashes(tokens) if hashes is None else hashes, tokens.counts()
    sizes = np.where(counts >= shingle, counts - shingle + 1, np.minimum(counts, 1))
    offsets = offsets_of(sizes)
    values = np.empty(offsets[-1], dtype=np.uint64)
    whole = counts >= shingle
    if whole.any():
        # A window that began nearer to the end of its text would reach into the next one.
        inside = np.repeat(tokens.offsets[1:], counts) - np.arange(len(hashes)) >= shingle
        windows = fold(hashes, slice(None), shingle)
        values[np.repeat(whole, sizes)] = windows[inside[: len(windows)]]
    for size in np.unique(counts[(counts > 0) & ~whole]).tolist():
        short = np.flatnonzero(counts == size)
        values[offsets[short]] = fold(hashes, tokens.offsets[short], size)
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


def sketch(
    texts: pa.Array, shingle: int, banding: Banding, seen: set[bytes], equality: Equality = ALL_FOLDED
) -> Sketches:
    """Sketch a batch of texts.

    Texts whose hash is in `seen`, or appears earlier in the batch, get no shingles; the others' hashes are added to
    it.
    """
    forms = Texts.of(texts)
    tokens = find_tokens(forms)
    content_hash = exact_hashes(texts, forms, equality)
    sketch_owner = owners(content_hash, seen)
    tokens = tokens.of_texts(sketch_owner)
    hashes = token_hashes(tokens)
    signs = sign_hashes(texts, forms, tokens, hashes, equality)
    values, offsets = shingle_sets(tokens, shingle, hashes)
    filled = np.diff(offsets) > 0
    bands = band_keys(values, np.append(offsets[:-1][filled], offsets[-1]), banding)
    return Sketches(content_hash, sketch_owner, signs, values, offsets, bands)
