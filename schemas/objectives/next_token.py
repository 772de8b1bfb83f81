"""Language models."""

from typing import Annotated, Literal

from pydantic import Field

from common.sections import Positive
from schemas.objectives import ObjectiveSettings


class NextToken(ObjectiveSettings):
    """`[objective] kind = "next_token"`: predict each token of packed rows from those before it in the row."""

    kind: Literal["next_token"]
    prompts: Annotated[int, Field(ge=0)] = 200
    """Texts of the test split whose beginnings are continued, and compared with how they go on; 0: none."""
    prompt_tokens: Positive = 32
    """Tokens of such a beginning."""
    continuation_tokens: Positive = 48
    """Most tokens of a continuation."""
    verbatim_words: Annotated[int, Field(ge=2)] = 8
    """Words in a row that count as verbatim if the training split has them too."""
    ngram_order: Annotated[int, Field(ge=1, le=8)] = 5
    """Tokens of the baseline's longest n-grams."""
    ngram_tokens: Positive = 20_000_000
    """Tokens of the training split that the baseline learns from, at most; it takes some 150 bytes for each."""
