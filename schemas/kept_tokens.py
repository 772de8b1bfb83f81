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

    @property
    def told(self) -> str:
        """Return a clause for logs and reports: the share that the length keeps, and lengths that keep more."""
        first, *others = (f"{self.keeping[each]:,} {{}} {each}%" for each in KEPT)
        lengths = ", ".join([first.format("to keep"), *(other.format("for") for other in others)])
        return f"length {self.length:,} keeps {100 * self.share:.1f}% of the tokens; it takes {lengths}"

    @property
    def heavily_cut(self) -> bool:
        """Return True where more than a tenth of the tokens is cut away, which a user should know."""
        return self.share < 0.9
