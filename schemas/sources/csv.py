"""CSV."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from common.sections import NonEmpty, Positive, Section
from schemas.sources import TextSettings

AUTO = "auto"
NoSign = Annotated[str, Field(max_length=1)]


RANGE = re.compile(r"(.*)\{(\d{1,7})\.\.(\d{1,7})\}(.*)", re.DOTALL)
"""Several names in one: `p{0..783}`."""


class PixelColumns(Section):
    """`[source.pixels]`: an image whose pixels stand in consecutive columns, row by row, 0 to 255."""

    column: NonEmpty = "image"
    """Name of the column for the image."""
    first: NonEmpty
    """Column of the first pixel."""
    height: Positive
    width: Positive
    channels: Literal[1, 3] = 1

    @property
    def count(self) -> int:
        """Columns of the image."""
        return self.height * self.width * self.channels


def _expanded(names: list[str]) -> list[str]:
    """Return the names with each range (`p{0..783}`) as the names that it stands for."""
    found = []
    for name in names:
        match = RANGE.fullmatch(name)
        if match is None:
            found.append(name)
            continue
        numbers = range(int(match[2]), int(match[3]) + 1)
        if not numbers:
            raise ValueError(f"the range {name!r} ends before it begins")
        found += [f"{match[1]}{number}{match[4]}" for number in numbers]
    return found


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
    header: Annotated[list[NonEmpty], AfterValidator(_expanded)] | None = None
    """Column names, for files without a header line; `p{0..783}` stands for 784 of them."""
    pixels: PixelColumns | None = None
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
