"""Delta tables."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.sources import SourceSettings


class Delta(SourceSettings):
    """`[[source]] format = "delta"`: the table at `path`, without wildcards."""

    places: ClassVar[frozenset[str]] = SourceSettings.places | {"version"}
    format: Literal["delta"]
    version: Annotated[int, Field(ge=0)] | None = None
    """Version of the table to read; by default the newest. A later one is an increment if it only adds files."""
