"""CSV."""

from typing import Annotated, Literal

from pydantic import Field

from common.sections import NonEmpty
from schemas.sources import SourceSettings


class Csv(SourceSettings):
    """`[[source]] format = "csv"`"""

    format: Literal["csv"]
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    quote: Annotated[str, Field(min_length=1, max_length=1)] = '"'
    header: list[NonEmpty] | None = None
    """Column names, for files without a header line."""
