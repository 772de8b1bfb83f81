"""CSV."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from common.sections import NonEmpty
from schemas.sources import TextSettings

AUTO = "auto"
NoSign = Annotated[str, Field(max_length=1)]


class Csv(TextSettings):
    """`[[source]] format = "csv"`"""

    format: Literal["csv"]
    delimiter: Annotated[str, Field(min_length=1, max_length=4)] = ","
    """One character, or `auto`: of comma, semicolon, tab and bar the one that gives the configured columns."""
    quote: NoSign = '"'
    """Quote around fields, doubled within them; empty where quotes are part of the text."""
    escape: NoSign = ""
    """Character before quotes within a field, usually a backslash; without quotes before delimiters and line ends."""
    comment: NoSign = ""
    """Character that lines begin with that are no records."""
    header: list[NonEmpty] | None = None
    """Column names, for files without a header line."""
    line_end: Literal["auto", "lf", "cr"] = "auto"
    """Line ends: `lf` is LF or CRLF, `cr` CR alone; `auto` takes CR where a file has it at its first lines."""
    resynchronise: bool = True
    """Read on behind a quote that is never closed, where many lines in a row are records by themselves."""

    @model_validator(mode="after")
    def _check_signs(self) -> "Csv":
        if self.delimiter != AUTO and len(self.delimiter) > 1:
            raise ValueError(
                f"delimiter {self.delimiter!r}: allowed are one character, such as `;`, and `auto`"
            )
        signs = [sign for sign in (self.delimiter, self.quote, self.escape, self.comment) if sign]
        if len(set(signs)) < len(signs) or set(signs) & {"\n", "\r"}:
            raise ValueError(
                "delimiter, quote, escape and comment must be different characters, and no line ends"
            )
        return self
