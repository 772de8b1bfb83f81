"""Numbers of rows."""

from typing import Literal

from common.sections import NonEmpty
from schemas.objectives import ObjectiveSettings


class Regression(ObjectiveSettings):
    """`[objective] kind = "regression"`: predict a number or a date of each row."""

    kind: Literal["regression"] = "regression"
    target: NonEmpty
    """Name of the `[[feature]]` (`encode = "number"` or `"date"`) to predict; it is no input of the model."""
