"""Texts as subword tokens."""

from typing import Literal

from schemas.features import TextFeature


class TokensFeature(TextFeature):
    """`[[feature]]` of subword tokens, a text a row; shorter texts are padded, longer ones truncated."""

    encode: Literal["tokens"] = "tokens"
    truncate: Literal["head", "head_tail"] = "head_tail"
