"""Plain training."""

from typing import Literal

from schemas.methods import MethodSettings


class Plain(MethodSettings):
    """`[method] kind = "plain"`: one update a step from the summed gradients of all ranks."""

    kind: Literal["plain"] = "plain"
