"""Texts as subword tokens."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from common.sections import NonEmpty, Positive
from schemas.features import FeatureSettings


class TokensFeature(FeatureSettings):
    """`[[feature]]` of subword tokens."""

    compared_as: ClassVar[str | None] = "texts"
    encode: Literal["tokens"] = "tokens"
    vocabulary: Annotated[int, Field(ge=260, le=1 << 20)] = 8192
    length: Annotated[int, Field(ge=2, le=1 << 20)] = 128
    """Tokens of a row; shorter texts are padded, longer ones truncated."""
    truncate: Literal["head", "head_tail"] = "head_tail"
    tokenizer: NonEmpty | None = None
    """`tokenizer.json` to load instead of training a tokenizer on the training split."""
    fit_bytes: Positive = 50_000_000
    """Approximate bytes of text to train the tokenizer on, at most, chosen by the hash of the record id."""
