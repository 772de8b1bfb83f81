"""Columns of two values."""

from typing import Literal, Self

from pydantic import model_validator

from schemas.features import TypedFeature


class BooleanFeature(TypedFeature):
    """`[[feature]]` of yes and no."""

    encode: Literal["boolean"]
    true: list[str] = ["true", "t", "yes", "y", "1", "on"]
    false: list[str] = ["false", "f", "no", "n", "0", "off"]
    missing: Literal["drop", "mode", "constant"] = "drop"
    fill: bool | None = None
    mark_missing: bool = False

    @model_validator(mode="after")
    def _apart(self) -> Self:
        both = {word.casefold() for word in self.true} & {word.casefold() for word in self.false}
        if both:
            raise ValueError(f"{sorted(both)[0]!r} stands for true as well as for false")
        if (self.missing == "constant") != (self.fill is not None):
            raise ValueError('fill belongs to missing = "constant", and that needs it')
        return self

    def fitted(self) -> set[str]:
        return {"fill", "mark_missing"}
