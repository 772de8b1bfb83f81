"""Class balance as the manifest states it: what the rows of each class weigh, or how often each of them is taken."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class ClassBalance(BaseModel):
    """`[balance]` applied to the rows of a split; splits that judge a model are never balanced."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: Literal["none", "weights", "oversample"] = "none"
    weights: dict[str, float] = {}
    """Policy `weights`, by class: the weight of the loss of each row; 1 on average over the rows of the split, 0 for
    a class without any."""
    taken: dict[str, int] = {}
    """Policy `oversample`, by class: how often an epoch takes each row, at least once."""
