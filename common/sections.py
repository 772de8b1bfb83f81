"""Base of every configuration section, and value types that several sections share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
NonEmpty = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """Table of the TOML file: unknown keys are refused, nothing is coerced, nothing can be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())
