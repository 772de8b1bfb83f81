"""Images: equal in all pixels, and alike by the distance of their thumbnails (etl/images/perceptual.py)."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from common.images import Image8, pixels_of
from etl.duplicates.connecting import Buckets, Connected, Ints, components_of
from etl.duplicates.contents import Content, Highest
from etl.duplicates.hash_lists import owners
from etl.images import perceptual

COMPARED_AT_ONCE = 1 << 11
"""Pairs whose thumbnails are compared at a time, 25 MB of them each."""
LOOKED_AT_ONCE = 1 << 16
"""Pairs that are compared by the means of blocks at a time."""


class Images(Content):
    """Images of one column."""

    part_bytes = 8 << 20
    measure = "Correlation of thumbnails"

    def sketch(self, batch: pa.RecordBatch, seen: set[bytes]) -> Iterator[pa.Array]:
        sizes, hashes, looks = [], [], []
        # One after the other, since a batch of PNG may be large once it is decoded.
        for png in batch.column(0).to_pylist():
            pixels = pixels_of(png)
            sizes.append(pixels.shape[0] * pixels.shape[1])
            hashes.append(pixel_hash(pixels))
            looks.append(None if hashes[-1] in seen else perceptual.thumbnail(pixels))
        owning = owners(hashes, seen)
        nothing = np.zeros((0, perceptual.SIDE, perceptual.SIDE, perceptual.CHANNELS), np.uint8)
        owned = [look[None] for look, own in zip(looks, owning, strict=True) if own and look is not None]
        thumbnails = np.concatenate([nothing, *owned])
        keys = perceptual.keys_of(thumbnails)
        ends = np.concatenate(([0], np.cumsum(owning))).astype(np.int32)
        sketches = iter(thumbnails)
        yield pa.array(sizes, pa.int32())
        yield pa.array(hashes, pa.binary())
        yield pa.array(owning)
        yield pa.array(np.zeros(len(sizes), dtype=np.int64))
        yield pa.ListArray.from_arrays(pa.array(ends * perceptual.KEYS), keys.ravel())
        yield pa.array([next(sketches).tobytes() if own else b"" for own in owning], pa.binary())

    def connect(self, block: pa.Table) -> pa.Table:
        hashes, bands = (block[name].combine_chunks() for name in ("content_hash", "bands"))
        images = SimilarImages(thumbnails_of(block["sketch"]), self.settings.distance)
        images.connect_buckets(Buckets.of_lists(bands))
        return components_of(images, hashes)

    @property
    def limit(self) -> float:
        return float(similarity_of(self.settings.distance))

    @property
    def explained(self) -> str:
        return (
            f"{self.measure} (1 − d²/2 at a distance d; near-copies from {self.limit:.3g} on, by "
            f"`deduplicate.distance` = {self.settings.distance:g})"
        )

    def highest(self, sample: pa.Table) -> Highest:
        """Return the function for 1 less half the squared distance, the correlation of two images' thumbnails.

        It is 0 for a pair that shows different things in a block, which `perceptual.are_near` tells apart.
        """
        wanted, limit = perceptual.standardised(thumbnails_of(sample["sketch"])), self.settings.distance

        def measure(batch: pa.RecordBatch) -> npt.NDArray[np.float64]:
            others = perceptual.standardised(thumbnails_of(batch["sketch"]))
            similar = similarity_of(_least_distances(wanted, others))
            one, other = np.nonzero(similar >= self.limit)
            apart = ~perceptual.are_near(wanted[one], others[other], limit)
            similar[one[apart], other[apart]] = 0.0
            found: npt.NDArray[np.float64] = similar.max(axis=1, initial=0.0)
            return found

        return measure


def similarity_of(distance: Any) -> Any:
    """Return the similarity of images at a distance, 0 to 1."""
    return np.clip(1 - np.square(distance) / 2, 0.0, 1.0)


def _least_distances(some: perceptual.Standard, others: perceptual.Standard) -> npt.NDArray[np.float64]:
    """Return the distance of each image's nearest turned or mirrored version to each of others, (some, others)."""
    count = perceptual.SIDE * perceptual.SIDE * perceptual.CHANNELS
    left, right = (
        each.reshape(len(each), -1).astype(np.float32) / perceptual.UNIT for each in (some, others)
    )
    products = [
        (some[:, places].reshape(len(some), -1).astype(np.float32) / perceptual.UNIT) @ right.T
        for places in perceptual.PLACES
    ]
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * np.max(products, axis=0)
    return np.sqrt(np.maximum(squares, 0.0) / count).astype(np.float64)


class SimilarImages(Connected):
    """Thumbnails, (n, SIDE, SIDE, 3) uint8, and the components of those within a distance."""

    def __init__(self, thumbnails: Image8, distance: float) -> None:
        super().__init__(len(thumbnails))
        self.thumbnails, self.distance = thumbnails, distance
        parts = (
            thumbnails[begin : begin + COMPARED_AT_ONCE]
            for begin in range(0, len(thumbnails), COMPARED_AT_ONCE)
        )
        nothing = [np.zeros((0, 64), np.float32)]
        self.coarse = np.concatenate(
            [*nothing, *(perceptual.coarse(perceptual.standardised(part)) for part in parts)]
        )

    def connect(self, first: Ints, second: Ints) -> None:
        first, second = np.minimum(first, second), np.maximum(first, second)
        pairs = np.unique(first * len(self.thumbnails) + second)
        for begin in range(0, len(pairs), LOOKED_AT_ONCE):
            some = self._open(pairs[begin : begin + LOOKED_AT_ONCE])
            for place in range(0, len(some), COMPARED_AT_ONCE):
                one, two = np.divmod(some[place : place + COMPARED_AT_ONCE], len(self.thumbnails))
                left, right = (perceptual.standardised(self.thumbnails[rows]) for rows in (one, two))
                near = perceptual.are_near(left, right, self.distance)
                self.join(one[near], two[near])

    def _open(self, pairs: Ints) -> Ints:
        """Return the pairs that have to be compared, each as one number."""
        one, two = np.divmod(pairs, len(self.thumbnails))
        pairs = pairs[self.labels_of(one) != self.labels_of(two)]
        one, two = np.divmod(pairs, len(self.thumbnails))
        return pairs[perceptual.may_be_near(self.coarse[one], self.coarse[two], self.distance)]


def thumbnails_of(sketches: pa.ChunkedArray | pa.Array) -> Image8:
    """Return the thumbnails of sketches, (n, SIDE, SIDE, 3) uint8."""
    joined = b"".join(sketches.to_pylist())
    return np.frombuffer(joined, np.uint8).reshape(-1, perceptual.SIDE, perceptual.SIDE, perceptual.CHANNELS)


def pixel_hash(pixels: Image8) -> bytes:
    """Return 128 bits (BLAKE2b, RFC 7693) of an image's shape and pixels."""
    digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels))
    return digest.digest()
