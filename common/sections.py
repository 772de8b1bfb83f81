"""Base of every configuration section, and value types that several sections share."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def of_form(pattern: str, words: str) -> AfterValidator:
    """Return a check that a whole text matches a pattern; a mistake is told in these words."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"allowed are {words}")
        return text

    return AfterValidator(check)


Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Name = Annotated[
    str,
    of_form(r"[A-Za-z0-9][A-Za-z0-9_.-]*", "A-Z, a-z, 0-9, `_`, `-` and `.`, with a letter or digit first"),
]
NonEmpty = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """Table of the TOML file: unknown keys are refused, nothing is coerced, nothing can be changed afterwards.

    Numbers are finite: neither `nan` nor `inf` is a limit that anything could be compared with.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, protected_namespaces=(), allow_inf_nan=False
    )
