"""Stochastic gradient descent."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.optimizers import OptimizerSettings


class Sgd(OptimizerSettings):
    """`[optimizer] kind = "sgd"`: gradient descent with momentum."""

    kind: Literal["sgd"]
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    l2: Annotated[float, Field(ge=0)] = 0.0
    """Factor of the weights that is added to their gradient."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    """Look ahead along the momentum (Sutskever et al. 2013)."""

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov looks ahead along the momentum: set momentum above 0, or leave it out")
        return self
