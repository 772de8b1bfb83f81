"""Federated averaging over silos."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from common.sections import Positive
from schemas.methods import MethodSettings

Rule = Literal["mean", "median", "trimmed_mean", "multi_krum", "clipped_mean"]


class Federated(MethodSettings):
    """`[method] kind = "federated"`: silos learn by themselves, and after some epochs their updates are combined.

    `train.batch` is then the rows of a silo's local batch.
    """

    kind: Literal["federated"] = "federated"
    silos: Literal["shard", "group"] = "shard"
    """Rows of a silo: a shard's, or those of the records with one value of `columns.group` (`publish.by_group`)."""
    local_epochs: Positive = 1
    """Epochs over its rows that a silo learns between two combinations."""
    combine: Rule = "mean"
    """Rule for the silos' updates."""
    hostile: Annotated[int, Field(ge=0)] = 0
    """Silos assumed hostile: with `trimmed_mean` so many of the lowest and highest values are left out, with
    `multi_krum` so many updates.
    """
    clip: Annotated[float, Field(gt=0)] | None = None
    """With `clipped_mean`: largest norm of an update; without it, the median of the round's norms."""

    @property
    def reads(self) -> Literal["streams", "shard", "group"]:
        return self.silos

    @model_validator(mode="after")
    def _only_what_counts(self) -> Self:
        if self.hostile and self.combine not in ("trimmed_mean", "multi_krum"):
            raise ValueError(
                f"hostile is for trimmed_mean and multi_krum, not for combine = {self.combine!r}"
            )
        if not self.hostile and self.combine in ("trimmed_mean", "multi_krum"):
            raise ValueError(f"combine = {self.combine!r} needs the number of hostile silos (method.hostile)")
        if self.clip is not None and self.combine != "clipped_mean":
            raise ValueError(f"clip is for clipped_mean, not for combine = {self.combine!r}")
        return self

    @property
    def least_silos(self) -> int:
        """Silos without which the rule could not bear so many hostile ones."""
        return {"trimmed_mean": 2 * self.hostile + 1, "multi_krum": 2 * self.hostile + 3}.get(self.combine, 1)
