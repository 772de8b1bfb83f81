"""Rows from what a model keeps of them, and anomalies as the rows that it gives back badly."""

from typing import Annotated, Literal

from pydantic import Field

from common.sections import NonEmpty
from schemas.objectives import ObjectiveSettings


class Reconstruction(ObjectiveSettings):
    """`[objective] kind = "reconstruction"`: give back the numbers of a row; needs no label."""

    kind: Literal["reconstruction"] = "reconstruction"
    normal: NonEmpty | Annotated[list[NonEmpty], Field(min_length=1)] | None = None
    """Class or classes of `columns.label` that are no anomalies; without it, nothing is judged by labels."""
    precision: Annotated[float, Field(gt=0, le=1)] = 0.97
    """With `normal`: precision that the threshold aims at on the validation split."""
    contamination: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Without `normal`: share of the validation split above the threshold."""

    def normal_classes(self) -> list[str]:
        """Return the classes that are no anomalies, sorted; none without `normal`."""
        given = self.normal or []
        return sorted({given} if isinstance(given, str) else set(given))
