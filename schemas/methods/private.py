"""Training with differential privacy."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.methods import MethodSettings

LEAST_DRAWN = {"noise_multiplier": 0.3, "delta": 1e-12}
"""With Poisson sampling: below the first, a privacy loss distribution takes gigabytes, below the second it has no ε."""


class Private(MethodSettings):
    """`[method] kind = "private"`: clipped gradients of rows, and noise in their sum (docs/privacy.md)."""

    kind: Literal["private"]
    epsilon: Annotated[float, Field(ge=1e-4, le=1e9)] | None = None
    """Most that the training may spend. Without `noise_multiplier` the noise is such that all epochs spend it."""
    delta: Annotated[float, Field(ge=1e-100, lt=1)] = 1e-5
    """Probability with which ε may be exceeded; below 1 / rows of the training split."""
    clip_norm: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0
    """Largest norm C of a row's gradient; `train.clip_norm` is not applied."""
    noise_multiplier: Annotated[float, Field(ge=1e-3, le=1e6)] | None = None
    """Standard deviation σ of the noise in a step's sum, in units of `clip_norm`."""
    sampling: Literal["once", "poisson"] = "once"
    """`once`: each row once an epoch, accounted for without amplification.

    `poisson`: each row in each step with the probability batch / rows, accounted for with amplification.
    """
    adjacency: Literal["row", "group"] | None = None
    """Hide each row, or all rows with an equal `columns.group` together; by default groups where that is set."""

    @model_validator(mode="after")
    def _has_noise(self) -> Self:
        if self.epsilon is None and self.noise_multiplier is None:
            raise ValueError(
                "give epsilon, from which the noise follows, or noise_multiplier, from which ε does"
            )
        if self.sampling == "poisson" and self.adjacency == "group":
            raise ValueError(
                'sampling = "poisson" is accounted for by row: leave adjacency out, or set sampling = "once"'
            )
        for key, least in LEAST_DRAWN.items():
            value = getattr(self, key)
            if self.sampling == "poisson" and value is not None and value < least:
                raise ValueError(
                    f'sampling = "poisson" is accounted for with {key} of at least {least:g}, not {value:g}: raise it, '
                    'or set sampling = "once"'
                )
        return self
