"""Adversarial training: each update from rows that were moved against the model."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from common.sections import Positive, Share
from schemas.methods import MethodSettings

Above0 = Annotated[float, Field(gt=0, le=1e6)]
STEPS = 7
"""Steps of PGD in training where none are given, as in the paper."""


class Adversarial(MethodSettings):
    """`[method] kind = "adversarial"`: learn from each row as an attack within ε of it leaves it."""

    kind: Literal["adversarial"] = "adversarial"
    attack: Literal["fgsm", "pgd"] = "fgsm"
    """`fgsm`: one step from a random start (Wong et al. 2020); `pgd`: several (Madry et al. 2018)."""
    epsilon: Above0 = 0.1
    """Farthest that any number is moved: of images as a share of the range 0 to 1, of number columns in units of the
    shards, in embeddings of texts in units of the root mean square of the table's weights.
    """
    steps: Positive | None = None
    """Steps of `pgd`; None: 7."""
    step_size: Above0 | None = None
    """Length of a step as a share of ε; None: 1.25 for `fgsm`, 2.5 / steps for `pgd`."""
    ramp: Annotated[float, Field(ge=0)] | None = None
    """Epochs over which ε grows from 0; None: half of the training."""
    clean: Share = 0.0
    """Share of the loss that comes from the rows as they are."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.attack == "fgsm" and self.steps is not None:
            raise ValueError('steps belongs to attack = "pgd": fgsm has one step')
        return self
