"""Accounting of every row once an epoch, by Gaussian differential privacy, without amplification.

Dong, Roth and Su 2022, "Gaussian Differential Privacy" (JRSS B 84, arXiv:1905.02383): a sum to which one row adds a
vector no longer than C, with noise N(0, σ²C²) in each coordinate, is 1/σ-GDP, and mechanisms of μ₁, μ₂, … composed,
each chosen with the results of those before, are √(μ₁² + μ₂² + …)-GDP. A row takes part in one step an epoch, and in
the others nothing depends on it but what came before. So E epochs are √E/σ-GDP in whatever order the rows come, as
long as the order does not depend on them. Of g rows that are replaced together, gᵢ are in the i-th step of an epoch,
and √(g₁² + g₂² + …) is at most g, where all are in one: g√E/σ.
"""

import math

from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

PRECISION = 1e-12
TOLERANCE = 1e-6
"""Share by which a computed ε may exceed the configured one: the rounding of this module."""


def delta_of(mu: float, epsilon: float) -> float:
    """Return the smallest δ for which μ-GDP is (ε, δ)-DP.

    Balle and Wang 2018, "Improving the Gaussian Mechanism for Differential Privacy", theorem 8; Dong et al. restate
    it: Φ(−ε/μ + μ/2) − e^ε Φ(−ε/μ − μ/2).
    """
    if mu == 0:
        return 0.0
    # As a logarithm, because e^ε alone would overflow; that of a probability, which rounding must not raise above 0.
    second = math.exp(min(0.0, epsilon + log_ndtr(-epsilon / mu - mu / 2)))
    return float(ndtr(mu / 2 - epsilon / mu) - second)


def epsilon_of(mu: float, delta: float) -> float:
    """Return the smallest ε for which μ-GDP is (ε, δ)-DP, to a relative error far below TOLERANCE."""
    if delta_of(mu, 0.0) <= delta:
        return 0.0
    # By the tail of a Gaussian, δ is reached before.
    most = mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta))
    return float(brentq(lambda epsilon: delta_of(mu, epsilon) - delta, 0.0, most, xtol=PRECISION))


def mu_of(epsilon: float, delta: float) -> float:
    """Return the largest μ for which μ-GDP is (ε, δ)-DP."""
    most = 1.0
    while delta_of(most, epsilon) < delta:
        most *= 2
    return float(brentq(lambda mu: delta_of(mu, epsilon) - delta, 0.0, most, xtol=PRECISION))


def spent(noise_multiplier: float, epochs: int, together: int = 1) -> float:
    """Return the μ of so many epochs for `together` rows that are replaced at once: g√E/σ."""
    return together * math.sqrt(epochs) / noise_multiplier


def noise_multiplier_of(mu: float, epochs: int, together: int = 1) -> float:
    """Return the σ with which so many epochs spend a μ: the inverse of `spent`."""
    return together * math.sqrt(epochs) / mu


def composed(*mus: float) -> float:
    """Return the μ of several trainings of the same rows, one after the other."""
    return math.hypot(*mus)
