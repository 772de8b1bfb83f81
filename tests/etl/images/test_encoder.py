"""Images become rows of one size as uint8, and the training split's mean and deviation are exact."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from common.images import Image8, png_of
from common.storage import Storage
from etl.encoders import image as encoder
from schemas.features.image import ImageFeature


def feature(**keys: object) -> ImageFeature:
    given = {"name": "i", "column": "i", "encode": "image", "size": 2, "channels": 1} | keys
    return ImageFeature.model_validate(given)


def one(pixels: Image8, **keys: object) -> list[list[int]]:
    """Return the rows of the one channel of an encoded image."""
    found = encoder.resized(png_of(pixels), feature(**keys))
    assert found.shape[2] == 1
    rows: list[list[int]] = found[..., 0].tolist()
    return rows


HALVES = np.array([[100] * 4, [200] * 4], dtype=np.uint8)
"""Twice as wide as high."""


def test_fit_shows_all_of_an_image_with_black_beside_it() -> None:
    assert one(HALVES, size=4) == [[0] * 4, [100] * 4, [200] * 4, [0] * 4]
    assert one(HALVES.T.copy(), size=4) == [[0, 100, 200, 0]] * 4


SIDES = st.integers(1, 90)


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([1, 3]))
def test_fit_gives_the_pixels_of_pillows_pad(
    width: int, height: int, columns: int, rows: int, channels: int
) -> None:
    shape = (height, width) if channels == 1 else (height, width, channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    # Of a side that rounds to nothing, Pillow leaves nothing.
    assume(min(round(height / width * columns), round(width / height * rows)) > 0)
    padded = ImageOps.pad(Image.fromarray(pixels), (columns, rows), encoder.RESAMPLING)
    found = encoder.resized(png_of(pixels), feature(size=[rows, columns], channels=channels))
    assert np.array_equal(found, np.asarray(padded).reshape(found.shape))


def test_fit_shows_long_narrow_images() -> None:
    white = np.full((4, 640), 255, dtype=np.uint8)
    line = [[0] * 32] * 16 + [[255] * 32] + [[0] * 32] * 15
    assert one(white, size=32) == line
    assert one(white.T.copy(), size=32) == np.transpose(line).tolist()


def test_fill_shows_the_middle() -> None:
    wide = np.array([[10, 100, 200, 30]] * 2, dtype=np.uint8)
    assert one(wide, resize="fill") == [[100, 200]] * 2
    assert one(wide.T.copy(), resize="fill") == [[100, 100], [200, 200]]


def test_stretch_shows_all_regardless_of_proportions() -> None:
    quarters = np.array([[100, 100, 200, 200]] * 2, dtype=np.uint8)
    found = one(quarters, size=[4, 2], resize="stretch")
    assert len(found) == 4
    # The filter is as wide as what it shrinks, and takes a little of the neighbour.
    assert all(abs(row[0] - 100) <= 15 and abs(row[1] - 200) <= 15 for row in found)


def test_an_image_of_that_size_stays_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7), dtype=np.uint8)
    for policy in ("fit", "fill", "stretch"):
        assert one(pixels, size=[5, 7], resize=policy) == pixels.tolist()


def test_channels_are_made_from_each_other() -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 9, 9]]], dtype=np.uint8)
    assert one(colours) == [[76, 150], [29, 9]]  # 0.299, 0.587 and 0.114 of 255 (ITU-R BT.601)
    assert np.array_equal(encoder.resized(png_of(colours), feature(channels=3)), colours)
    gray = encoder.resized(png_of(np.array([[1, 2], [3, 4]], dtype=np.uint8)), feature(channels=3))
    assert gray.tolist() == [[[1] * 3, [2] * 3], [[3] * 3, [4] * 3]]


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_are_the_bytes_of_the_pixels(channels: int) -> None:
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (3, 4, 5, channels), dtype=np.uint8)
    chosen = feature(size=[4, 5], channels=channels)
    rows, flags = encoder.encode(pa.array([png_of(each) for each in pixels]), b"", chosen)
    assert rows.to_pylist() == [each.tobytes() for each in pixels]
    assert flags.to_pylist() == [0] * 3
    assert (encoder.dtype(chosen), encoder.shape(chosen)) == ("uint8", [4, 5, channels])


def test_mean_and_deviation_are_exact_and_depend_on_no_batch() -> None:
    random = np.random.default_rng(2)
    pixels = random.integers(0, 256, (20, 2, 2, 3), dtype=np.uint8)
    values = [png_of(each) for each in pixels]
    chosen = feature(channels=3)
    artifacts = {
        encoder.fit(
            (encoder.summarise(pa.array(values[i : i + size]), chosen) for i in range(0, 20, size)),
            chosen,
            Storage(),
        )
        for size in (1, 3, 20)
    }
    (artifact,) = artifacts
    learned = json.loads(artifact)
    assert learned["rows"] == 20
    assert learned["mean"] == pytest.approx(pixels.mean(axis=(0, 1, 2)), rel=1e-12)
    assert learned["deviation"] == pytest.approx(pixels.std(axis=(0, 1, 2)), rel=1e-12)


def test_images_of_one_colour_have_no_deviation() -> None:
    values = pa.array([png_of(np.full((2, 2), 77, dtype=np.uint8))] * 5)
    learned = json.loads(encoder.fit([encoder.summarise(values, feature())], feature(), Storage()))
    assert (learned["mean"], learned["deviation"]) == ([77.0], [0.0])
