"""Class balance as the manifest states it: what the rows of each class weigh, or how often each of them is taken."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class ClassBalance(BaseModel):
    """What `[balance]` came to on the rows of a split; the splits that judge a model are never balanced."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: Literal["none", "weights", "oversample"] = "none"
    weights: dict[str, float] = {}
    """Of `weights`, by class: what the loss of each of its rows counts; 1 on average over the rows of the split, 0 for
    a class without any."""
    taken: dict[str, int] = {}
    """Of `oversample`, by class: how often each of its rows is taken in an epoch, at least once."""
