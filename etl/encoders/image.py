"""Images of one size, as uint8: rows of height × width × channels, whose mean and deviation go into the artifact.

The pixels stay as they are: a model scales them, with what the training split taught, where it computes.
"""

import json
import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, ImageOps

from common.images import pixels_of
from common.storage import Storage
from etl.encoders.fixed import fixed_rows
from schemas.config import canonical_json
from schemas.features.image import ImageFeature

ARTIFACT = "statistics"
RESAMPLING = Image.Resampling.BILINEAR
"""Pillow's widens the filter where it shrinks an image, so that every pixel counts."""


def resized(png: bytes, feature: ImageFeature) -> npt.NDArray[np.uint8]:
    """Return the pixels of an image at the size and with the channels of a feature: (height, width, channels)."""
    image = Image.fromarray(pixels_of(png)).convert("L" if feature.channels == 1 else "RGB")
    size = (feature.width, feature.height)
    if image.size != size:
        if feature.resize == "fit":
            image = _contained(image, size)
        elif feature.resize == "fill":
            image = ImageOps.fit(image, size, RESAMPLING)
        else:
            image = image.resize(size, RESAMPLING)
    return np.asarray(image).reshape(feature.height, feature.width, feature.channels)


def _contained(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return all of an image in the middle of black; as ImageOps.pad, which leaves nothing of long narrow ones."""
    width, height = size
    if image.width * height > image.height * width:
        height = max(1, round(image.height / image.width * width))
    else:
        width = max(1, round(image.width / image.height * height))
    framed = Image.new(image.mode, size)
    place = (round((size[0] - width) / 2), round((size[1] - height) / 2))
    framed.paste(image.resize((width, height), RESAMPLING), place)
    return framed


def summarise(values: pa.BinaryArray, feature: ImageFeature) -> bytes:
    """Return the sums over a batch, as JSON: rows, and for each channel the pixels and their squares, exactly."""
    sums, squares = (np.zeros(feature.channels, dtype=np.int64) for _ in range(2))
    for png in values.to_pylist():
        pixels = resized(png, feature).astype(np.int64)
        sums += pixels.sum(axis=(0, 1))
        squares += (pixels**2).sum(axis=(0, 1))
    return canonical_json({"rows": len(values), "sums": sums.tolist(), "squares": squares.tolist()})


def fit(values: Iterable[bytes], feature: ImageFeature, options: Storage) -> bytes:
    """Return mean and standard deviation of each channel, in levels of 0 to 255, from the sums of all batches."""
    found = [json.loads(value) for value in values]
    rows = sum(one["rows"] for one in found)
    pixels = rows * feature.height * feature.width
    means, deviations = [], []
    for channel in range(feature.channels):
        total, squares = (sum(one[key][channel] for one in found) for key in ("sums", "squares"))
        means.append(total / pixels)
        # From whole numbers, so that it depends on no order of summation.
        deviations.append(math.sqrt((squares * pixels - total * total) / (pixels * pixels)))
    document = {"kind": "image", "rows": rows, "mean": means, "deviation": deviations}
    return canonical_json(document) + b"\n"


def encode(values: pa.BinaryArray, artifact: bytes, feature: ImageFeature) -> tuple[pa.Array, pa.Array]:
    """Return rows of height × width × channels bytes, and no flags."""
    rows = np.zeros((len(values), math.prod(shape(feature))), dtype=np.uint8)
    for row, png in enumerate(values.to_pylist()):
        rows[row] = resized(png, feature).ravel()
    return fixed_rows(rows), pa.array(np.zeros(len(values), dtype=np.int32))


def dtype(feature: ImageFeature) -> str:
    """Return numpy's name of the element type."""
    return "uint8"


def shape(feature: ImageFeature) -> list[int]:
    """Return [height, width, channels]."""
    return [feature.height, feature.width, feature.channels]


def vocabulary(artifact: bytes) -> int | None:
    """Return None: the elements are levels of brightness."""
    return None
