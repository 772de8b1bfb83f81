"""Texts below front matter in YAML."""

from typing import Literal

from common.sections import NonEmpty, Section
from schemas.sources import SourceSettings


class FirstTrue(Section):
    """Fills a column with the name that belongs to the first of these keys whose value is true in the front matter."""

    column: NonEmpty
    keys: dict[str, str]
    """In the order in which they are tried: key of the front matter = value of the column."""
    otherwise: str | None = None
    """The value where none is true; without it such a record lacks the column, and is quarantined."""


class FrontMatter(SourceSettings):
    """`[[source]] format = "front_matter"`"""

    format: Literal["front_matter"]
    text: NonEmpty = "text"
    """The name of the column that takes what follows the front matter."""
    first_true: FirstTrue | None = None
