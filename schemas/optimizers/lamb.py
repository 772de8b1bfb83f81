"""LAMB."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.optimizers import OptimizerSettings


class Lamb(OptimizerSettings):
    """`[optimizer] kind = "lamb"`: Adam whose steps are as long as each layer's weights allow, for large batches (You
    et al. 2020).
    """

    kind: Literal["lamb"]
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Share by which a step of rate 1 shrinks the weights, apart from the gradient."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epsilon: Annotated[float, Field(gt=0)] = 1e-6
