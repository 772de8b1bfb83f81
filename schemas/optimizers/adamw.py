"""AdamW."""

from typing import Annotated, Literal

from pydantic import Field

from common.sections import Share
from schemas.optimizers import OptimizerSettings


class AdamW(OptimizerSettings):
    """`[optimizer] kind = "adamw"`"""

    kind: Literal["adamw"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    warm_up: Share = 0.06
    """Share of all steps with a linearly rising learning rate."""
    final: Share = 0.0
    """Share of `learning_rate` at the end of the cosine annealing."""
