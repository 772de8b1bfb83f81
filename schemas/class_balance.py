"""Class balance as the manifest states it: the loss weight or the repeats of the rows of each class."""

import math
from collections.abc import Mapping
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

    def check(self, counts: Mapping[str, int]) -> None:
        """Raise ValueError where the policy and its numbers do not fit a split with these rows by class."""
        for policy, by_class in (("weights", self.weights), ("oversample", self.repeats)):
            expected = set(counts) if self.policy == policy else set()
            if set(by_class) != expected:
                raise ValueError(
                    f"the policy {self.policy!r} of a split with the classes {sorted(counts)} cannot have "
                    f"{policy} numbers for {sorted(by_class)}"
                )
        if not all(math.isfinite(weight) and weight >= 0 for weight in self.weights.values()):
            raise ValueError(f"a class cannot have one of the weights {self.weights}")
        if not all(times >= 1 for times in self.repeats.values()):
            raise ValueError(f"each row is taken at least once an epoch, not {self.repeats}")
