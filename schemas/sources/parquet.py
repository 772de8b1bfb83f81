"""Parquet."""

from typing import Literal

from schemas.sources import SourceSettings


class Parquet(SourceSettings):
    """`[[source]] format = "parquet"`"""

    format: Literal["parquet"]
