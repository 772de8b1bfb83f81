"""Class balance as the manifest states it: the loss weight or the repeats of the rows of each class."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class ClassBalance(BaseModel):
    """`[balance]` applied to the rows of a split; splits that judge a model are never balanced."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: Literal["none", "weights", "oversample"] = "none"
    weights: dict[str, float] = {}
    """Policy `weights`, by class: the loss weight of each row; 1 on average over the split, 0 for a class without
    rows.
    """
    repeats: dict[str, int] = {}
    """Policy `oversample`, by class: repeats of each row in an epoch, at least 1."""
