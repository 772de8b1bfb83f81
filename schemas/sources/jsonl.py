"""JSON lines."""

from typing import Literal

from schemas.sources import TextSettings


class JsonLines(TextSettings):
    """`[[source]] format = "jsonl"`"""

    format: Literal["jsonl"]
