"""Texts below YAML front matter."""

from typing import Literal

from common.sections import NonEmpty, Section
from schemas.sources import TextSettings


class FirstTrue(Section):
    """Column filled with the name of the first of several front matter keys that is true."""

    column: NonEmpty
    keys: dict[str, str]
    """In order of trial: key of the front matter = value of the column."""
    otherwise: str | None = None
    """Value where none is true; without it such a record lacks the column, and is quarantined."""


class FrontMatter(TextSettings):
    """`[[source]] format = "front_matter"`"""

    format: Literal["front_matter"]
    text: NonEmpty = "text"
    """Name of the column for the text below the front matter."""
    first_true: FirstTrue | None = None
