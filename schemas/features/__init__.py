"""`[[feature]]`: one module a kind, with the keys of that kind.

`clean` normalises the values of typed columns (notation, spellings, missing values), one record at a time. `encode`
fits what is learned from the training split: limits of outliers, means, categories.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from common.sections import Name, NonEmpty, Positive, Section

MISSING = ["", "na", "n/a", "nan", "null", "none", "-"]


class FeatureSettings(Section):
    """Keys that every `[[feature]]` has."""

    compared_as: ClassVar[str | None] = None
    """Content (etl/duplicates/contents) by which such a column tells duplicates; None: as a part of whole rows."""
    name: Name
    column: NonEmpty
    encode: str


class TextFeature(FeatureSettings):
    """Keys that every column of text has."""

    compared_as: ClassVar[str | None] = "texts"
    vocabulary: Annotated[int, Field(ge=260, le=1 << 20)] = 8192
    length: Annotated[int, Field(ge=2, le=1 << 20)] = 128
    """Tokens of a row."""
    tokenizer: NonEmpty | None = None
    """`tokenizer.json` to load instead of training a tokenizer on the training split."""
    fit_bytes: Positive = 50_000_000
    """Approximate bytes of text to train the tokenizer on, at most, chosen by the hash of the record id."""

    @property
    def limit(self) -> int | None:
        """Tokens of a text that are kept; None: all."""
        return self.length


class TypedFeature(FeatureSettings):
    """Keys that every typed column has."""

    missing_values: list[str] = MISSING
    """Spellings of a missing value, beside null and an absent column; white space and case do not count."""
    invalid: Literal["drop", "missing"] = "drop"
    """Handling of a value that cannot be parsed as its type: leave the record out (reason `<name>.invalid`), or treat
    the value as missing.
    """

    def normalisation(self) -> dict[str, Any]:
        """Return the keys that `clean` uses."""
        return self.model_dump(mode="json", exclude=self.fitted())

    def fitted(self) -> set[str]:
        """Return the keys that only `encode` uses."""
        return set()


class Outliers(Section):
    """`outliers`: their definition and their handling."""

    rule: Literal["iqr", "mad", "quantiles", "limits"]
    """`iqr`: outside Q1 - factor·IQR to Q3 + factor·IQR (Tukey 1977); `mad`: |x - median|·0.6745/MAD above factor
    (Iglewicz and Hoaglin 1993); `quantiles`: outside the quantiles `low` to `high`; `limits`: outside these numbers."""
    action: Literal["mark", "clip", "drop"] = "mark"
    """`mark`: one more element, 1 for an outlier; `clip`: replace by the nearest limit; `drop`: leave the record out
    (reason `<name>.outlier`).
    """
    factor: Annotated[float, Field(gt=0)] | None = None
    """Default: 1.5 for `iqr`, 3.5 for `mad`."""
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.rule in ("iqr", "mad") and (self.low is not None or self.high is not None):
            raise ValueError(f"rule = {self.rule!r} takes a factor, neither low nor high")
        if self.rule in ("quantiles", "limits"):
            if self.factor is not None:
                raise ValueError(f"rule = {self.rule!r} takes low and high, no factor")
            if self.low is None and self.high is None:
                raise ValueError(f"rule = {self.rule!r} needs low, high, or both")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("low is above high")
        if self.rule == "quantiles" and not all(
            0 <= each <= 1 for each in (self.low, self.high) if each is not None
        ):
            raise ValueError("quantiles lie between 0 and 1")
        return self


class ScalarFeature(TypedFeature):
    """Column of numbers, or of values that are measured like numbers."""

    missing: Literal["drop", "mean", "median", "constant"] = "drop"
    """`drop`: leave out a record without a value (reason `<name>.missing`); otherwise the replacement for the value."""
    fill: float | None = None
    """Constant of `missing = "constant"`."""
    mark_missing: bool = False
    """Add an element that is 1 where the value was missing."""
    outliers: Outliers | None = None
    scale: Literal["none", "standard", "min_max", "robust"] = "none"
    """`standard`: mean 0 and standard deviation 1 over the training split; `min_max`: 0 to 1 there.

    `robust`: asinh((x - median) / (MAD/0.6745)), which a few extreme values neither move nor dominate; where MAD is 0,
    the standard deviation takes its place. MAD estimates the deviation (Hampel, *J. Am. Stat. Assoc.* 69, 1974), and
    asinh is linear near 0 and logarithmic far out (Burbidge, Magee and Robb, *J. Am. Stat. Assoc.* 83, 1988).
    """
    fit_rows: Positive = 5_000_000
    """Approximate number of rows to compute statistics from, at most, chosen by the hash of the record id."""

    @model_validator(mode="after")
    def _filled(self) -> Self:
        if (self.missing == "constant") != (self.fill is not None):
            raise ValueError('fill belongs to missing = "constant", and that needs it')
        return self

    def fitted(self) -> set[str]:
        return {"fill", "mark_missing", "outliers", "scale", "fit_rows"}
