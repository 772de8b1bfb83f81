"""AdamW."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.optimizers import OptimizerSettings


class AdamW(OptimizerSettings):
    """`[optimizer] kind = "adamw"`: Adam with decoupled weight decay."""

    kind: Literal["adamw"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Share by which a step of rate 1 shrinks the weights, apart from the gradient."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
