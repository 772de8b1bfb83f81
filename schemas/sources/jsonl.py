"""JSON lines."""

from typing import Literal

from schemas.sources import SourceSettings


class JsonLines(SourceSettings):
    """`[[source]] format = "jsonl"`"""

    format: Literal["jsonl"]
