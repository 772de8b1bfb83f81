"""Perceptual hashes and thumbnails of images, by which recompressed, resized and turned copies are found.

The hash is that of the low frequencies of a discrete cosine transform, each above or below their median (Zauner 2010,
"Implementation and Benchmarking of Perceptual Image Hash Functions", 3.2.1): 63 bits of a gray thumbnail. A key takes
BITS of them, and the smallest of those of the eight turned and mirrored versions of the image, so that these share all
keys. Whether two images with a key in common are alike is decided on their thumbnails (`are_near`).

All of it is computed in whole numbers, or by operations that IEEE 754 rounds in one way: equal images give equal
results on any machine.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from common.images import Image8
from common.splitmix import mix

SIDE = 32
"""Pixels of a thumbnail's side; it is stretched to a square."""
CHANNELS = 3
KEYS, BITS = 64, 20
"""Copies whose hashes differ in up to 6 of 63 bits very likely share a key, of unlike pictures one pair in 2,000."""
LOW = 8
"""Frequencies of an axis that are hashed."""
FLAT = 2
"""Standard deviation, in levels of gray, below which an image has no shape of its own."""
BLOCK = 4
WORST, WORST_GRAY = 2.5, 1.6
"""Largest distance of a block of 4 × 4 pixels of the thumbnails, as a multiple of the largest of all pixels: of their
colours, and of their means, which files with loss keep better.
"""
_OF_BLOCK = BLOCK * BLOCK * CHANNELS
UNIT = 256
"""Whole numbers that stand for a standard deviation of the pixels of a thumbnail."""
Standard = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float32]
SLACK = 1e-3
"""Against rounding, where a bound may only ever be too generous."""


_places = np.arange(SIDE)
_ANGLES = np.pi * (2 * _places[None, :] + 1) * _places[:LOW, None] / (2 * SIDE)
_COSINES = np.rint(1024 * np.cos(_ANGLES)).astype(np.int64)
_KEYS = np.arange(1, KEYS + 1, dtype=np.uint64) << np.uint64(32)
_CHOSEN = np.argsort(mix(np.add.outer(_KEYS, np.arange(LOW * LOW - 1, dtype=np.uint64))), axis=1)[:, :BITS]
"""(KEYS, BITS): the bits of the hash that make up each key."""


def _turned(side: int) -> npt.NDArray[np.int64]:
    """Return the pixel of a square image at each place of its turned and mirrored versions, (8, side²)."""
    places = np.arange(side * side).reshape(side, side)
    versions = (places, places[:, ::-1])
    return np.stack([np.rot90(version, turns).ravel() for version in versions for turns in range(4)])


PLACES, _COARSE_PLACES = _turned(SIDE), _turned(SIDE // BLOCK)


def thumbnail(pixels: Image8) -> Image8:
    """Return the (SIDE, SIDE, 3) thumbnail of (height, width) gray or (height, width, 3) RGB pixels."""
    # Pillow widens the filter where it shrinks an image, so that every pixel counts, in a turned image as much. Of its
    # box the pixels on an edge belong to one side.
    image = Image.fromarray(pixels).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(image)


def keys_of(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return the keys of n thumbnails, (n, KEYS); copies very likely share one."""
    gray = thumbnails.reshape(-1, SIDE, SIDE, CHANNELS).sum(axis=3, dtype=np.int64)
    low = _COSINES @ gray @ _COSINES.T
    odd = np.where(np.arange(LOW) % 2, -1, 1)
    smallest = np.full((len(low), KEYS), np.iinfo(np.uint64).max, dtype=np.uint64)
    powers = np.uint64(1) << np.arange(BITS, dtype=np.uint64)
    for transposed in (low, low.transpose(0, 2, 1)):
        for down in (1, odd[:, None]):
            for across in (1, odd[None, :]):
                found = (transposed * down * across).reshape(len(low), -1)[:, 1:]
                bits = found > np.median(found, axis=1, keepdims=True)
                values = (bits[:, _CHOSEN] * powers).sum(axis=2, dtype=np.uint64)
                np.minimum(smallest, mix(values + _KEYS), out=smallest)
    return smallest.view(np.int64)


def standardised(thumbnails: npt.NDArray[np.uint8]) -> Standard:
    """Return n thumbnails, (n, SIDE², 3) int16, with mean 0 and standard deviation UNIT: so brightness does not count.

    Images without a shape keep their levels of gray, in a range that no others have.
    """
    found = thumbnails.reshape(-1, SIDE * SIDE, CHANNELS).astype(np.int64)
    count = SIDE * SIDE * CHANNELS
    total = found.sum(axis=(1, 2), keepdims=True)
    # count² times the variance, from whole numbers.
    spread = count * (found**2).sum(axis=(1, 2), keepdims=True) - total**2
    flat = spread < (FLAT * count) ** 2
    scaled = UNIT * (count * found - total) / np.sqrt(np.where(flat, 1, spread))
    return np.rint(np.where(flat, UNIT * (10 + found / 8), scaled)).astype(np.int16)


def coarse(standard: Standard) -> Floats:
    """Return the means of the blocks of 4 × 4 pixels of n standardised thumbnails, in standard deviations, (n, 64).

    The difference of two means squared is no larger than the mean of the squared differences.
    """
    count = SIDE // BLOCK
    blocks = standard.reshape(-1, count, BLOCK, count, BLOCK * CHANNELS).sum(axis=(2, 4), dtype=np.int32)
    return (blocks.reshape(-1, count * count) / (_OF_BLOCK * UNIT)).astype(np.float32)


def may_be_near(first: Floats, second: Floats, limit: float) -> npt.NDArray[np.bool_]:
    """Return False for pairs that `coarse` shows to be above the limit, bool (pairs,); both are (pairs, 64)."""
    found = np.zeros(len(first), dtype=bool)
    for places in _COARSE_PLACES:
        found |= ((first[:, places] - second) ** 2).mean(axis=1) <= limit**2 + SLACK
    return found


def are_near(first: Standard, second: Standard, limit: float) -> npt.NDArray[np.bool_]:
    """Return whether each pair of standardised thumbnails is within a distance, (pairs,).

    The distance is the root mean square difference of their pixels, in standard deviations, and one of the eight
    turned and mirrored versions has to be within it. A pair is also too far apart where a block of 4 × 4 pixels is, in
    its colours or in gray: there one shows something that the other does not.
    """
    found = np.zeros(len(first), dtype=bool)
    open_pairs = np.arange(len(first))
    count = SIDE // BLOCK
    for places in PLACES:
        if not len(open_pairs):
            break
        apart = first[open_pairs][:, places].astype(np.int32) - second[open_pairs]
        shape = (len(apart), count, BLOCK, count, -1)
        blocks = (apart**2).reshape(shape).sum(axis=(2, 4), dtype=np.int64).reshape(len(apart), -1)
        gray = (
            (apart.sum(axis=2, dtype=np.int64) ** 2).reshape(shape).sum(axis=(2, 4)).reshape(len(apart), -1)
        )
        whole = np.sqrt(blocks.sum(axis=1) / (SIDE * SIDE * CHANNELS)) / UNIT
        worst = np.sqrt(blocks.max(axis=1) / _OF_BLOCK) / UNIT
        worst_gray = np.sqrt(gray.max(axis=1) / (_OF_BLOCK * CHANNELS)) / UNIT
        near = (whole <= limit) & (worst <= WORST * limit) & (worst_gray <= WORST_GRAY * limit)
        found[open_pairs[near]] = True
        open_pairs = open_pairs[~near]
    return found
