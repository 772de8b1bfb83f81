"""Part of the texts that `feature.length` keeps: stated in the manifest, told by both wings."""

from pydantic import BaseModel, ConfigDict

KEPT = ("50", "90", "99")
"""Percentages of all tokens for which the length that keeps them is stated."""


class KeptTokens(BaseModel):
    """Tokens of the training split that a feature's length keeps, and lengths that would keep more."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    length: int
    share: float
    """Tokens kept, of all before truncation."""
    keeping: dict[str, int]
    """Smallest length that keeps each percentage of `KEPT`."""

    def told(self, feature: str) -> str:
        """Return a sentence for logs and reports."""
        lengths = ", ".join(f"{self.keeping[each]:,} would keep {each}%" for each in KEPT)
        return f"{feature}: length {self.length:,} keeps {100 * self.share:.1f}% of the tokens ({lengths})"

    @property
    def heavily_cut(self) -> bool:
        """Whether more than a tenth of the tokens is cut away, which a user should know."""
        return self.share < 0.9
