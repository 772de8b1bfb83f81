"""Texts as subword tokens, laid end to end for a language model."""

from typing import Literal

from schemas.features import TextFeature


class PackedTokensFeature(TextFeature):
    """`[[feature]]` of subword tokens in rows of exactly `length`, without padding.

    In each split the texts are laid end to end, each followed by a separator, and cut into rows, so that a row holds
    parts of one text or of several. None is truncated.
    """

    encode: Literal["packed_tokens"]

    @property
    def limit(self) -> int | None:
        return None
