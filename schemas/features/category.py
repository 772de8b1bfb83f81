"""Columns of names from a list."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from common.sections import Positive
from schemas.features import TypedFeature


class CategoryFeature(TypedFeature):
    """`[[feature]]` of names from a list that is learned from the training split; code 0 stands for all others."""

    encode: Literal["category"]
    case: Literal["lower", "keep"] = "lower"
    spellings: dict[str, list[str]] = {}
    """name = other spellings of it; case and white space do not count."""
    missing: Literal["drop", "mode", "other"] = "other"
    """`other`: code 0."""
    min_count: Positive = 1
    """Give code 0 to names with fewer rows in the training split."""
    most: Annotated[int, Field(ge=1, le=1 << 20)] = 10_000
    """Give a code of their own only to the most frequent names."""

    @model_validator(mode="after")
    def _one_name_each(self) -> Self:
        names: dict[str, str] = {}
        for name, others in self.spellings.items():
            for spelling in (name, *others):
                folded = " ".join(spelling.split()).casefold()
                if names.setdefault(folded, name) != name:
                    raise ValueError(f"{spelling!r} stands for {names[folded]!r} as well as for {name!r}")
        return self

    def fitted(self) -> set[str]:
        return {"min_count", "most"}
