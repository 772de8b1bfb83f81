"""Perceptual hashes and thumbnails of images, by which recompressed, resized and turned copies are found.

The hash is that of the low frequencies of a discrete cosine transform, each above or below their median (Zauner 2010,
"Implementation and Benchmarking of Perceptual Image Hash Functions", 3.2.1): 63 bits of a gray thumbnail. A key takes
BITS of them, and the smallest of those of the eight turned and mirrored versions of the image, so that these share all
keys. Whether two images with a key in common are alike is decided on their thumbnails (`distances`).
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from common.images import Image8

SIDE = 32
"""Pixels of a thumbnail's side; it is stretched to a square."""
CHANNELS = 3
KEYS, BITS = 48, 14
"""Copies whose hashes differ in 4 of 63 bits share a key with a probability above 0.9999, in 6 with 0.998."""
LOW = 8
"""Frequencies of an axis that are hashed."""
FLAT = 2.0
"""Standard deviation, in levels of gray, below which an image has no shape of its own."""
BLOCK = 4
WORST = 4.0
"""Largest distance of a block of 4 × 4 pixels of the thumbnails, as a multiple of the largest of all pixels."""
Floats = npt.NDArray[np.float32]


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return a bijection of 64-bit words that scatters them (Stafford 2011, the finaliser of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


_places = np.arange(SIDE)
_COSINES = np.cos(np.pi * (2 * _places[None, :] + 1) * _places[:LOW, None] / (2 * SIDE)).astype(np.float32)
_KEYS = np.arange(1, KEYS + 1, dtype=np.uint64) << np.uint64(32)
_CHOSEN = np.argsort(_mixed(np.add.outer(_KEYS, np.arange(LOW * LOW - 1, dtype=np.uint64))), axis=1)[:, :BITS]
"""(KEYS, BITS): the bits of the hash that make up each key."""


def _turned(side: int) -> npt.NDArray[np.int64]:
    """Return the pixel of a square image at each place of its turned and mirrored versions, (8, side²)."""
    places = np.arange(side * side).reshape(side, side)
    versions = (places, places[:, ::-1])
    return np.stack([np.rot90(version, turns).ravel() for version in versions for turns in range(4)])


PLACES, _COARSE_PLACES = _turned(SIDE), _turned(SIDE // BLOCK)


def thumbnail(pixels: Image8) -> Image8:
    """Return the (SIDE, SIDE, 3) thumbnail of (height, width) gray or (height, width, 3) RGB pixels."""
    image = Image.fromarray(pixels).convert("RGB")
    shrinks = min(image.size) >= SIDE
    resized = image.resize((SIDE, SIDE), Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)
    return np.asarray(resized)


def keys_of(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return the keys of n thumbnails, (n, KEYS); copies very likely share one."""
    gray = thumbnails.reshape(-1, SIDE, SIDE, CHANNELS).astype(np.float32).mean(axis=3)
    low = np.einsum("ui,nij,vj->nuv", _COSINES, gray, _COSINES)
    odd = np.where(np.arange(LOW) % 2, -1.0, 1.0).astype(np.float32)
    smallest = np.full((len(low), KEYS), np.iinfo(np.uint64).max, dtype=np.uint64)
    powers = np.uint64(1) << np.arange(BITS, dtype=np.uint64)
    for transposed in (low, low.transpose(0, 2, 1)):
        for down in (1.0, odd[:, None]):
            for across in (1.0, odd[None, :]):
                found = (transposed * down * across).reshape(len(low), -1)[:, 1:]
                bits = found > np.median(found, axis=1, keepdims=True)
                values = (bits[:, _CHOSEN] * powers).sum(axis=2, dtype=np.uint64)
                np.minimum(smallest, _mixed(values + _KEYS), out=smallest)
    return smallest.view(np.int64)


def standardised(thumbnails: npt.NDArray[np.uint8]) -> Floats:
    """Return n thumbnails, (n, SIDE², 3), with mean 0 and standard deviation 1 each: so brightness does not count.

    Images without a shape keep their levels of gray, in a range that no others have.
    """
    found = thumbnails.reshape(-1, SIDE * SIDE, CHANNELS).astype(np.float32)
    mean = found.mean(axis=(1, 2), keepdims=True)
    deviation = found.std(axis=(1, 2), keepdims=True)
    flat = 10.0 + found / 8.0
    return np.where(deviation < FLAT, flat, (found - mean) / np.maximum(deviation, FLAT)).astype(np.float32)


def coarse(standard: Floats) -> Floats:
    """Return the means of the blocks of 4 × 4 pixels of n standardised thumbnails, (n, 64).

    The difference of two means squared is no larger than the mean of the squared differences.
    """
    count = SIDE // BLOCK
    return (
        standard.reshape(-1, count, BLOCK, count, BLOCK * CHANNELS)
        .mean(axis=(2, 4))
        .reshape(-1, count * count)
    )


def may_be_near(first: Floats, second: Floats, limit: float) -> npt.NDArray[np.bool_]:
    """Return False for pairs that `coarse` shows to be above the limit, bool (pairs,); both are (pairs, 64)."""
    found = np.zeros(len(first), dtype=bool)
    for places in _COARSE_PLACES:
        found |= ((first[:, places] - second) ** 2).mean(axis=1) <= limit**2
    return found


def distances(first: Floats, second: Floats, limit: float) -> Floats:
    """Return the distance of each pair of standardised thumbnails, (pairs,); infinity where it is above the limit.

    It is the root mean square difference of their pixels, in standard deviations, of the nearest of the eight turned
    and mirrored versions. A pair is also too far apart where a block of 4 × 4 pixels is: there one shows something
    that the other does not.
    """
    nearest = np.full(len(first), np.inf, dtype=np.float32)
    open_pairs = np.arange(len(first))
    for places in PLACES:
        if not len(open_pairs):
            break
        squares = ((first[open_pairs][:, places] - second[open_pairs]) ** 2).mean(axis=2)
        whole = np.sqrt(squares.mean(axis=1))
        count = SIDE // BLOCK
        blocks = squares.reshape(-1, count, BLOCK, count, BLOCK).mean(axis=(2, 4)).reshape(len(squares), -1)
        near = (whole <= limit) & (np.sqrt(blocks.max(axis=1)) <= WORST * limit)
        nearest[open_pairs[near]] = np.minimum(nearest[open_pairs[near]], whole[near])
        open_pairs = open_pairs[~near]
    return nearest
