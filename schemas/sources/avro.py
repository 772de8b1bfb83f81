"""Avro."""

from typing import Literal

from schemas.sources import SourceSettings


class Avro(SourceSettings):
    """`[[source]] format = "avro"`: object container files; needs the package `fastavro` (the extra `avro`)."""

    format: Literal["avro"]
