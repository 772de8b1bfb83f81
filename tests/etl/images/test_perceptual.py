"""Copies of pictures share a key and are near; what shows something else is not."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from benchmarks.image_duplicates import SMALL, measure
from common.images import png_of
from etl.duplicates.contents.images import Images, SimilarImages, pixel_hash
from etl.images import perceptual
from schemas.settings import Deduplicate
from tests.etl.images.pictures import configuration

Pixels = npt.NDArray[np.uint8]
DISTANCE = Deduplicate().distance


@pytest.mark.parametrize("pictures", [60, pytest.param(400, marks=pytest.mark.thorough)])
def test_copies_are_found_among_look_alikes(pictures: int) -> None:
    found = measure(pictures, DISTANCE)
    shares = {name: near for name, (_, near, _) in found.items()}
    for name in shares:
        if name.startswith(("JPEG", "WebP", "resized", "turned by 90", "mirrored", "other proportions")):
            assert shares[name] >= 0.99, name
    assert shares["brighter or darker by up to 10%"] >= 0.95
    assert shares["cropped by 1%"] >= 0.5
    assert {
        name: near for name, (copies, near, _) in found.items() if not copies and name != SMALL and near
    } == {}


def alike(first: Pixels, second: Pixels) -> bool:
    """Return True where two images share a key and are near."""
    pair = np.stack([perceptual.thumbnail(first), perceptual.thumbnail(second)])
    keys = perceptual.keys_of(pair)
    images = SimilarImages(pair, DISTANCE)
    if not (keys[0] == keys[1]).any():
        return False
    images.connect(np.array([0]), np.array([1]))
    one, two = images.labels_of(np.arange(2)).tolist()
    return bool(one == two)


def digit(seed: int = 3) -> Pixels:
    """Return a tiny picture like a written digit: a bright stroke on black."""
    random = np.random.default_rng(seed)
    found = np.zeros((28, 28), dtype=np.uint8)
    place = random.uniform(6, 22, 2)
    for _ in range(40):
        place = np.clip(place + random.normal(0, 1.6, 2), 4, 23)
        row, column = place.astype(int)
        found[row - 1 : row + 2, column - 1 : column + 2] = 220
    return found


def test_tiny_images_are_compared_as_large_ones() -> None:
    assert alike(digit(), digit())
    assert alike(digit(), np.rot90(digit()).copy())
    brighter = np.minimum(digit().astype(int) * 11 // 10, 255).astype(np.uint8)
    assert alike(digit(), brighter)
    assert not any(alike(digit(), digit(seed)) for seed in range(4, 30))
    # A digit one pixel further is another picture: a twentieth of the side is seen.
    assert not alike(digit(), np.roll(digit(), 1, axis=1))


def test_images_without_a_shape_are_told_apart_by_their_gray() -> None:
    flat = {level: np.full((40, 30), level, dtype=np.uint8) for level in (0, 1, 100, 255)}
    assert alike(flat[0], np.zeros((64, 64), dtype=np.uint8))
    assert not alike(flat[0], flat[1])
    assert not alike(flat[0], flat[100])
    assert not alike(flat[100], flat[255])
    assert not alike(flat[100], digit())
    one_dot = flat[100].copy()
    one_dot[10:20, 10:20] = 130
    assert not alike(flat[100], one_dot)


def test_equal_pixels_have_equal_hashes_whatever_their_shape_in_memory() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    assert pixel_hash(pixels) == pixel_hash(np.asfortranarray(pixels))
    assert pixel_hash(pixels) != pixel_hash(pixels.reshape(4, 6, 3))
    assert len(pixel_hash(pixels)) == 16


def test_turned_versions_of_a_thumbnail_share_all_keys() -> None:
    thumbnails = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    keys = perceptual.keys_of(thumbnails)
    for places in perceptual.PLACES:
        turned = thumbnails.reshape(5, -1, 3)[:, places].reshape(thumbnails.shape)
        assert np.array_equal(perceptual.keys_of(turned), keys)
        pairs = perceptual.standardised(thumbnails), perceptual.standardised(turned)
        assert perceptual.are_near(*pairs, 0.0).all()


def test_blocks_rule_out_no_pair_that_is_near() -> None:
    random = np.random.default_rng(2)
    base = random.integers(0, 256, (200, 32, 32, 3)).astype(float)
    noise = random.normal(0, 1, base.shape) * random.uniform(0, 30, (200, 1, 1, 1))
    others = np.clip(base + noise, 0, 255).astype(np.uint8)
    first, second = perceptual.standardised(base.astype(np.uint8)), perceptual.standardised(others)
    near = perceptual.are_near(first, second, DISTANCE)
    may = perceptual.may_be_near(perceptual.coarse(first), perceptual.coarse(second), DISTANCE)
    assert 20 < near.sum() < 180
    assert may[near].all()


def test_a_batch_of_large_images_is_sketched_one_by_one(tmp_path: Path) -> None:
    """Copies within it and before it give no thumbnail of their own."""
    config = configuration(tmp_path)
    values = [png_of(np.full((50, 40), level, dtype=np.uint8)) for level in (5, 90, 5)]
    seen = {pixel_hash(np.full((50, 40), 90, dtype=np.uint8))}
    content = Images(config)
    sizes, hashes, owning, counts, keys, sketches = content.sketch(
        pa.RecordBatch.from_pydict({"image": pa.array(values, pa.binary())}), seen
    )
    assert sizes.to_pylist() == [2000] * 3
    assert len(hashes) == len(counts) == 3
    assert owning.to_pylist() == [True, False, False]
    assert [len(one) for one in sketches.to_pylist()] == [32 * 32 * 3, 0, 0]
    assert [len(one) for one in keys.to_pylist()] == [perceptual.KEYS, 0, 0]
