"""What a private training promises: ε of the closed form against the accountant of another library."""

import math
from typing import Any

import pytest

from common.errors import UsageError
from schemas.methods.private import Private
from training.privacy import accountant, poisson


@pytest.mark.parametrize(("noise_multiplier", "epochs", "known"), [(7.46, 4, 1.0002), (2.78, 4, 3.0015)])
def test_epsilon_is_that_of_another_library(noise_multiplier: float, epochs: int, known: float) -> None:
    from dp_accounting import GaussianDpEvent, pld

    ours = accountant.epsilon_of(accountant.spent(noise_multiplier, epochs), 1e-5)
    other = pld.PLDAccountant()
    other.compose(GaussianDpEvent(noise_multiplier), epochs)
    assert ours == pytest.approx(known, abs=1e-4)
    assert ours == pytest.approx(other.get_epsilon(1e-5), rel=1e-4)


@pytest.mark.parametrize("delta", [1e-9, 1e-5, 0.1])
@pytest.mark.parametrize("epsilon", [0.01, 1.0, 8.0, 100.0])
def test_epsilon_and_noise_follow_from_each_other(epsilon: float, delta: float) -> None:
    noise = accountant.noise_multiplier_of(accountant.mu_of(epsilon, delta), epochs=5, together=3)
    mu = accountant.spent(noise, epochs=5, together=3)
    assert accountant.epsilon_of(mu, delta) == pytest.approx(epsilon, rel=accountant.TOLERANCE)
    assert accountant.delta_of(mu, epsilon) == pytest.approx(delta, rel=1e-6)
    assert accountant.delta_of(1.01 * mu, epsilon) > delta > accountant.delta_of(0.99 * mu, epsilon)


def test_a_group_and_a_second_training_cost_more() -> None:
    assert accountant.spent(2.0, epochs=4, together=6) == 6 * accountant.spent(2.0, epochs=4) == 6.0
    assert accountant.composed(3.0, 4.0) == 5.0
    # As four epochs in one go or in two.
    assert accountant.composed(*[accountant.spent(2.0, 2)] * 2) == pytest.approx(accountant.spent(2.0, 4))


def test_little_is_spent_where_delta_allows_everything() -> None:
    assert accountant.epsilon_of(0.0, 1e-5) == 0.0
    assert accountant.epsilon_of(1e-6, 1e-5) == 0.0


def test_sampling_amplifies() -> None:
    steps, share = 344, 256 / 21987
    noise = poisson.noise_multiplier_of(1.0, share, steps, 1e-5)
    assert 0.98 < poisson.epsilon_of(noise, share, steps, 1e-5) <= 1.0
    # Rows once an epoch need more noise for as many epochs; without sampling the two accountants agree.
    assert noise < accountant.noise_multiplier_of(accountant.mu_of(1.0, 1e-5), epochs=4) / 5
    whole = poisson.epsilon_of(4.0, 1.0, 4, 1e-5)
    assert whole == pytest.approx(accountant.epsilon_of(accountant.spent(4.0, 4), 1e-5), rel=1e-3)


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "dp_accounting", None)
    with pytest.raises(UsageError, match=r"ringlake\[privacy\]"):
        poisson.epsilon_of(1.0, 0.1, 10, 1e-5)


def test_far_tails_are_numbers() -> None:
    assert math.isfinite(accountant.epsilon_of(1e11, 1e-5))
    assert math.isfinite(accountant.epsilon_of(100.0, 1e-12))


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"noise_multiplier": 1e-300}, "noise_multiplier"),
        ({"noise_multiplier": 1e39}, "noise_multiplier"),  # no float32
        ({"epsilon": 1.0, "clip_norm": 1e39}, "clip_norm"),
        ({"epsilon": 1.0, "clip_norm": 1e-40}, "clip_norm"),
        ({"epsilon": 1e300}, "epsilon"),
        ({"epsilon": 1e-9}, "epsilon"),
        ({"noise_multiplier": 0.2, "sampling": "poisson"}, "noise_multiplier of at least 0.3, not 0.2"),
        ({"epsilon": 1.0, "delta": 1e-15, "sampling": "poisson"}, "delta of at least 1e-12"),
    ],
)
def test_numbers_that_cannot_be_accounted_for_or_computed_with_are_refused(
    keys: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        Private(kind="private", **keys)
