"""ORC."""

from typing import Literal

from schemas.sources import SourceSettings


class Orc(SourceSettings):
    """`[[source]] format = "orc"`"""

    format: Literal["orc"]
