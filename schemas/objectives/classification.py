"""Classes of rows."""

from typing import Literal

from schemas.objectives import ObjectiveSettings


class Classification(ObjectiveSettings):
    """`[objective] kind = "classification"`: predict the class of each row, from the column `columns.label`."""

    kind: Literal["classification"] = "classification"
