"""Rules for the silos' updates: against numpy by hand, whatever their order, and with hostile silos among them."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch

from common.errors import CheckError
from training.silos import combining

ROWS = [10, 20, 30, 5, 5, 40, 12]


def updates(silos: int = 7, parameters: int = 11, seed: int = 0) -> torch.Tensor:
    return torch.randn((silos, parameters), generator=torch.Generator().manual_seed(seed))


def test_the_mean_is_weighted_by_rows() -> None:
    expected = np.average(updates().double().numpy(), axis=0, weights=ROWS)
    np.testing.assert_allclose(combining.mean(updates(), ROWS).numpy(), expected, rtol=1e-6, atol=1e-7)


def test_each_update_is_cut_to_a_norm() -> None:
    given = updates().double().numpy()
    norms = np.linalg.norm(given, axis=1)
    cut = given * np.minimum(1, 2.5 / norms)[:, None]
    assert (norms > 2.5).any()
    assert (norms < 2.5).any()
    found = combining.mean(updates(), ROWS, clip=2.5).numpy()
    np.testing.assert_allclose(found, np.average(cut, axis=0, weights=ROWS), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("silos", [1, 2, 6, 7])
def test_the_median_is_that_of_each_parameter(silos: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combining, "COLUMNS", 4)  # several slices
    given = updates(silos)
    np.testing.assert_allclose(combining.median(given).numpy(), np.median(given.double().numpy(), axis=0))


@pytest.mark.parametrize("hostile", [1, 2, 3])
def test_the_trimmed_mean_leaves_out_the_extremes_of_each_parameter(hostile: int) -> None:
    kept = np.sort(updates().double().numpy(), axis=0)[hostile : 7 - hostile]
    found = combining.trimmed_mean(updates(), hostile).numpy()
    np.testing.assert_allclose(found, kept.mean(axis=0), rtol=1e-6, atol=1e-7)


def krum_by_hand(given: npt.NDArray[np.float64], hostile: int) -> npt.NDArray[np.float64]:
    scores = []
    for one in range(len(given)):
        distances = sorted(
            float(((given[one] - given[other]) ** 2).sum()) for other in range(len(given)) if other != one
        )
        scores.append(sum(distances[: len(given) - hostile - 2]))
    return np.array(scores)


@pytest.mark.parametrize("hostile", [1, 2])
def test_krum_scores_are_those_of_the_paper(hostile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combining, "COLUMNS", 4)
    by_hand = krum_by_hand(updates().double().numpy(), hostile)
    np.testing.assert_allclose(combining.krum_scores(updates(), hostile).numpy(), by_hand, rtol=1e-9)
    chosen = sorted(np.argsort(by_hand)[: 7 - hostile].tolist())
    update, left_out = combining.multi_krum(updates(), hostile)
    assert left_out == sorted(set(range(7)) - set(chosen))
    expected = updates().double().numpy()[chosen].mean(axis=0)
    np.testing.assert_allclose(update.numpy(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_silos_does_not_matter(seed: int) -> None:
    places = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
    given, rows = updates(), torch.tensor(ROWS)
    moved, moved_rows = given[places], rows[places].tolist()
    torch.testing.assert_close(combining.mean(moved, moved_rows), combining.mean(given, ROWS))
    torch.testing.assert_close(combining.mean(moved, moved_rows, 1.0), combining.mean(given, ROWS, 1.0))
    assert combining.median(moved).equal(combining.median(given))
    assert combining.trimmed_mean(moved, 2).equal(combining.trimmed_mean(given, 2))
    update, left_out = combining.multi_krum(moved, 2)
    before, left_out_before = combining.multi_krum(given, 2)
    torch.testing.assert_close(update, before)
    assert sorted(places[left_out].tolist()) == left_out_before


@pytest.mark.parametrize("worst", [-50.0, math.inf, math.nan])
def test_rules_that_bear_hostile_silos_stay_near_the_honest_ones(worst: float) -> None:
    honest = 1 + 0.1 * updates(7, 50)
    given = torch.cat([honest, honest[:3] * worst])
    rows = [10] * 10
    found, left_out = combining.multi_krum(given, 3)
    assert left_out == [7, 8, 9]
    norms = [float(norm) for norm in given.norm(dim=1)]
    for update in (
        found,
        combining.median(given),
        combining.trimmed_mean(given, 3),
        combining.weighted(list(given), combining.shares(rows, norms, combining.median_norm(norms))).float(),
    ):
        # Clipping leaves the hostile ones a part, but none that is larger than that of an honest one.
        assert (update > 0.3).all()
        assert (update < 1.3).all()
    bad = combining.mean(given, rows)
    assert not bool(((bad > 0.3) & (bad < 1.3)).any())


def test_a_mean_that_is_not_finite_is_refused() -> None:
    given = updates()
    given[3, 5] = torch.nan
    with pytest.raises(CheckError, match="the mean of the silos' updates is not finite"):
        combining.check_finite(combining.mean(given, ROWS), "mean")
