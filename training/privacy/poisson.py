"""Accounting of Poisson sampling: each row in each step with probability q, independently of all else.

By privacy loss distributions (Doroshenko et al. 2022, "Connect the Dots"), as Google's library dp-accounting computes
them: the extra `privacy`.
"""

import functools
import math
from typing import Any

from scipy.optimize import brentq

from common.errors import UsageError
from common.wording import extra

STEP = 1e-3
"""Precision of the noise multiplier found for an ε, which is rounded up."""


@functools.cache
def epsilon_of(noise_multiplier: float, share: float, steps: int, delta: float) -> float:
    """Return the ε of so many steps, each over rows drawn with the probability `share` (q).

    The library rounds up. Raises UsageError where it is not installed.
    """
    accounting = _library()
    accountant = accounting.pld.PLDAccountant(accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    noise = accounting.GaussianDpEvent(noise_multiplier)
    accountant.compose(accounting.PoissonSampledDpEvent(share, noise), steps)
    return float(accountant.get_epsilon(delta))


@functools.cache
def noise_multiplier_of(epsilon: float, share: float, steps: int, delta: float) -> float:
    """Return a σ, not much larger than needed, with which so many steps spend at most ε."""

    def too_much(noise_multiplier: float) -> float:
        return epsilon_of(noise_multiplier, share, steps, delta) - epsilon

    least, most = 0.3, 1.0
    while too_much(most) > 0:
        least, most = most, 2 * most
    if most == 1.0 and too_much(least) <= 0:
        return least
    found = float(brentq(too_much, least, most, xtol=STEP / 4))
    found = STEP * math.ceil(found / STEP)
    while too_much(found) > 0:
        found += STEP
    return found


def _library() -> Any:
    try:
        import dp_accounting
        from dp_accounting import pld  # noqa: F401
    except ImportError as error:
        raise UsageError(
            'method.sampling = "poisson" is accounted for by the package dp-accounting, which is not installed: '
            + extra("privacy")
        ) from error
    return dp_accounting
