"""Class balance as the manifest states it: the loss weight of the rows of each class, or how often each is taken."""

import math
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict


class ClassBalance(BaseModel):
    """`[balance]` or `train.where` applied to the rows of a split; splits that judge a model are never balanced."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: Literal["none", "weights", "oversample", "where"] = "none"
    weights: dict[str, float] = {}
    """Policy `weights`, by class: the loss weight of each row; 1 on average over the split, 0 for a class without
    rows.
    """
    repeats: dict[str, int] = {}
    """By class: repeats of each row in an epoch; policy `oversample`: at least 1; `where`: 1 for a class that training
    takes, 0 for the others.
    """

    def check(self, counts: Mapping[str, int]) -> None:
        """Raise ValueError where the policy and its numbers do not fit a split with these rows by class."""
        for numbers, policies, by_class in (
            ("weights", ("weights",), self.weights),
            ("repeats", ("oversample", "where"), self.repeats),
        ):
            expected = set(counts) if self.policy in policies else set()
            if set(by_class) != expected:
                raise ValueError(
                    f"the policy {self.policy!r} of a split with the classes {sorted(counts)} cannot have "
                    f"{numbers} for {sorted(by_class)}"
                )
        if not all(math.isfinite(weight) and weight >= 0 for weight in self.weights.values()):
            raise ValueError(f"a class cannot have one of the weights {self.weights}")
        if self.policy == "where":
            if set(self.repeats.values()) - {0, 1}:
                raise ValueError(f"a row is taken once an epoch or not at all, not {self.repeats}")
        elif not all(times >= 1 for times in self.repeats.values()):
            raise ValueError(f"each row is taken at least once an epoch, not {self.repeats}")
