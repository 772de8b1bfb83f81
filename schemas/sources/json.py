"""JSON that is not one object a line."""

from typing import Literal

from schemas.sources import TextSettings


class Json(TextSettings):
    """`[[source]] format = "json"`: arrays of objects, or objects one after the other, however they are laid out."""

    format: Literal["json"]
