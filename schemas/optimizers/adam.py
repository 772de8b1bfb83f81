"""Adam."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.optimizers import OptimizerSettings


class Adam(OptimizerSettings):
    """`[optimizer] kind = "adam"`"""

    kind: Literal["adam"]
    l2: Annotated[float, Field(ge=0)] = 0.0
    """Factor of the weights that is added to their gradient; `adamw` has a decay apart from it."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
