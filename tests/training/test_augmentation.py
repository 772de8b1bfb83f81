"""Random changes of images: each does what it says, and depends on seed, epoch and record key alone."""

import contextlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch

from schemas.config import Configuration
from schemas.manifest import FIXED, Column, Manifest
from schemas.settings import Augment
from training.evaluation import augmented
from training.input.augmentation import DRAWS, ERASED, Augmentation, draws
from training.input.batch_loader import LocalBatch

ROWS = 64
ALL: dict[str, Any] = {
    "flip": 0.5,
    "rotation": 20,
    "shift": 0.2,
    "crop": 0.2,
    "brightness": 0.3,
    "erasing": 0.5,
}


def augmentation(seed: int = 0, **changes: Any) -> Augmentation:
    columns = [
        Column(name="image", role="feature", dtype="uint8", shape=[8, 8, 3], storage=FIXED),
        Column(name="number", role="feature", dtype="float32", shape=[1], storage=FIXED),
    ]
    manifest = SimpleNamespace(content=SimpleNamespace(columns=columns))
    return Augmentation(Augment.model_validate(changes), seed, cast(Manifest, manifest), torch.device("cpu"))


def keys(rows: int = ROWS) -> npt.NDArray[np.uint64]:
    return np.random.default_rng(5).integers(0, 2**64, (rows, 2), dtype=np.uint64)


def images(rows: int = ROWS) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(6).integers(0, 256, (rows, 8, 8, 3), dtype=np.uint8))


def batch(chosen: slice | list[int] = slice(None), epoch: int = 0, split: str = "train") -> LocalBatch:
    of_keys = keys()[chosen]
    features = {"image": images()[chosen], "number": torch.ones(len(of_keys), 1)}
    return LocalBatch(features, None, of_keys, None, len(of_keys), ROWS, epoch, 0, split)


def of(changed: LocalBatch) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = changed.features["image"].numpy()
    return found


def drawn(**numbers: float) -> torch.Tensor:
    """Return the random numbers of one row: 0.5, which moves nothing, but for those by their place (`_0`, `_1` …)."""
    found = torch.full((1, DRAWS), 0.5)
    for place, number in numbers.items():
        found[0, int(place[1:])] = number
    return found


def test_without_any_change_everything_stays_as_it_is() -> None:
    found = augmentation()(batch())
    assert found.features["image"].dtype == torch.uint8
    assert torch.equal(found.features["image"], images())


def test_other_splits_and_features_stay_as_they_are() -> None:
    for split in ("validation", "test"):
        assert torch.equal(augmentation(**ALL)(batch(split=split)).features["image"], images())
    assert torch.equal(augmentation(**ALL)(batch()).features["number"], torch.ones(ROWS, 1))


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_row_becomes_the_same_on_any_number_of_ranks(ranks: int) -> None:
    whole = of(augmentation(**ALL)(batch()))
    for rank in range(ranks):
        rows = list(range(rank, ROWS, ranks))
        assert np.array_equal(of(augmentation(**ALL)(batch(rows))), whole[rows])


def test_a_row_becomes_the_same_in_any_batch_and_order() -> None:
    whole = of(augmentation(**ALL)(batch(epoch=3)))
    order = np.random.default_rng(1).permutation(ROWS).tolist()
    for begin in range(0, ROWS, 10):
        rows = order[begin : begin + 10]
        assert np.array_equal(of(augmentation(**ALL)(batch(rows, epoch=3))), whole[rows])


def test_another_epoch_key_or_seed_gives_another() -> None:
    first = draws(keys(), 0, 0)
    assert first.shape == (ROWS, DRAWS)
    assert np.array_equal(draws(keys(), 0, 0), first)
    other = keys()
    other[:, 1] += np.uint64(1)
    for others in (draws(keys(), 0, 1), draws(keys(), 1, 0), draws(other, 0, 0)):
        assert (others != first).mean() > 0.99
    assert not np.array_equal(of(augmentation(**ALL)(batch(epoch=1))), of(augmentation(**ALL)(batch())))


def test_random_numbers_are_even() -> None:
    found = draws(keys(20_000), 1, 2)
    assert np.min(found) >= 0
    assert np.max(found) < 1
    assert np.abs(found.mean(axis=0) - 0.5).max() < 0.01
    assert np.abs(np.corrcoef(found.T) - np.eye(DRAWS)).max() < 0.04


def test_flip_mirrors_left_to_right() -> None:
    found = of(augmentation(flip=1)(batch()))
    assert np.allclose(found, images().numpy()[:, :, ::-1], atol=0.01)
    some = of(augmentation(flip=0.5)(batch()))
    mirrored = [
        np.allclose(row, image[:, ::-1], atol=0.01) for row, image in zip(some, images().numpy(), strict=True)
    ]
    unchanged = [
        np.allclose(row, image, atol=0.01) for row, image in zip(some, images().numpy(), strict=True)
    ]
    assert sum(mirrored) + sum(unchanged) == ROWS
    assert 16 < sum(mirrored) < 48


@pytest.mark.parametrize(("number", "turns"), [(1.0, 1), (0.0, -1), (0.5, 0)])
def test_rotation_turns_by_the_angle(number: float, turns: int) -> None:
    found = augmentation(rotation=90).changed(images(1), drawn(_1=number)).numpy()[0]
    expected = np.rot90(images(1).numpy()[0], turns)
    assert np.allclose(found, expected, atol=0.05)


def test_shift_moves_by_a_share_of_the_side_and_reflects_at_the_border() -> None:
    # 2 of 8 pixels to the right, and nothing down.
    found = augmentation(shift=0.25).changed(images(1), drawn(_2=1.0)).numpy()[0]
    image = images(1).numpy()[0]
    assert np.allclose(found[:, :6], image[:, 2:], atol=0.05)
    assert np.allclose(found[:, 6:], image[:, :5:-1], atol=0.05)
    down = augmentation(shift=0.25).changed(images(1), drawn(_3=0.0)).numpy()[0]
    assert np.allclose(down[2:], image[:6], atol=0.05)


def test_crop_enlarges_the_middle() -> None:
    image = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    image[:, 2:6, 2:6] = 200
    found = augmentation(crop=0.5).changed(image, drawn(_4=1.0)).numpy()[0]
    assert (found[1:7, 1:7] == 200).all()
    assert np.allclose(augmentation(crop=0.5).changed(image, drawn(_4=0.0)), image, atol=0.05)


@pytest.mark.parametrize(("number", "factor"), [(1.0, 1.5), (0.0, 0.5), (0.5, 1.0)])
def test_brightness_scales_and_clamps(number: float, factor: float) -> None:
    found = augmentation(brightness=0.5).changed(images(1), drawn(_5=number)).numpy()
    assert np.allclose(found, np.clip(images(1).numpy() * factor, 0, 255), atol=0.01)


def test_erasing_makes_one_rectangle_black() -> None:
    size, rows = 100, 400
    erased = augmentation(erasing=1.0).erased(torch.from_numpy(draws(keys(rows), 0, 0)), size, size).numpy()
    shares = erased.mean(axis=(1, 2))
    assert (shares > ERASED[0] * 0.7).all()
    assert (shares < ERASED[1] * 1.2).all()
    for one in erased[:50]:
        tall, wide = one.any(axis=1), one.any(axis=0)
        assert np.array_equal(one, tall[:, None] & wide[None, :])
        for side in (tall, wide):  # without gaps
            assert np.flatnonzero(side).tolist() == list(range(side.argmax(), side.argmax() + side.sum()))
        assert 0.4 < tall.sum() / wide.sum() < 2.5
    some = augmentation(erasing=0.25).erased(torch.from_numpy(draws(keys(rows), 0, 0)), size, size)
    assert 0.18 < some.any(dim=2).any(dim=1).float().mean() < 0.32
    light = torch.full((ROWS, 8, 8, 3), 90, dtype=torch.uint8)
    found = augmentation(erasing=1.0).changed(light, torch.from_numpy(draws(keys(), 0, 0)))
    assert set(found.unique().tolist()) == {0.0, 90.0}


@pytest.mark.parametrize(("epochs", "shown"), [(2, 2), (30, augmented.EPOCHS)])
def test_pictures_are_of_epochs_that_training_has(
    monkeypatch: pytest.MonkeyPatch, epochs: int, shown: int
) -> None:
    rows = replace(batch(slice(2)), record_ids=np.array(["a", "b"]))
    loader = contextlib.nullcontext(iter([rows]))
    monkeypatch.setattr(augmented, "BatchLoader", lambda *_, **__: loader)
    monkeypatch.setattr(augmented, "Augmentation", lambda *_: augmentation(flip=0.5))
    train = SimpleNamespace(epochs=epochs, seed=0)
    config = SimpleNamespace(augment=Augment(flip=0.5), train=train, storage=None)
    found = augmented.augmented_rows(cast(Configuration, config), cast(Manifest, None))
    assert [len(row["pictures"]) for row in found] == [1 + shown] * 2


@pytest.mark.parametrize(
    "wrong", [{"flip": 1.5}, {"rotation": 200}, {"shift": -0.1}, {"crop": 1}, {"turn": 1}]
)
def test_changes_out_of_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        augmentation(**wrong)
