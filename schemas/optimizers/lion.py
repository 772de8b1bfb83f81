"""Lion."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.optimizers import OptimizerSettings


class Lion(OptimizerSettings):
    """`[optimizer] kind = "lion"`: steps by the sign of a momentum (Chen et al. 2023)."""

    kind: Literal["lion"]
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Share by which a step of rate 1 shrinks the weights, apart from the gradient."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.99
