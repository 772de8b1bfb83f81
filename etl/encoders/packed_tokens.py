"""Subword tokens of whole texts, which publication lays end to end (etl/publication/packing.py).

The tokenizer is that of `tokens`, with one more special token: the separator, which follows each text. It normalises
nothing, because a language model writes what it has read: NFKC would take its full-width commas from Chinese.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from common.errors import DataError
from common.storage import Storage
from etl.encoders import tokens
from etl.encoders.fixed import rows_of_any_width
from etl.encoders.tokens import ARTIFACT, dtype, shape, vocabulary
from schemas.features.packed_tokens import PackedTokensFeature

__all__ = ["ARTIFACT", "dtype", "encode", "fit", "separator", "shape", "vocabulary"]
SEPARATORS = ("<end>", "<|endoftext|>", "</s>", "<eos>", "<sep>", "[SEP]")
"""Names of the separator; that of a tokenizer trained here is the first."""


def fit(texts: Iterable[str], feature: PackedTokensFeature, options: Storage) -> bytes:
    """Return the tokenizer as the bytes of a `tokenizer.json`: trained on `texts`, or the configured file.

    Raises DataError where the configured file has no padding as token 0, or no separator.
    """
    if feature.tokenizer is None:
        return tokens.train(texts, feature, [tokens.PADDING, SEPARATORS[0]])
    artifact = tokens.load(feature, options)
    if separator(artifact) is None:
        raise DataError(
            f"{feature.tokenizer} cannot be used: texts are packed with a token between them, and it has none of "
            f"{', '.join(SEPARATORS)}; give a tokenizer with one of these as a special token"
        )
    return artifact


def encode(
    texts: pa.Array, artifact: bytes, feature: PackedTokensFeature
) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Return all token ids of each text, binary, little-endian; their number, int32; and the text's bytes, int64.

    `texts`: string array without nulls.
    """
    ids, counts = tokens.piece_encoder(artifact).encode_whole(texts.to_pylist())
    rows = rows_of_any_width(ids.astype(np.dtype(dtype(feature)).newbyteorder("<")), counts)
    return rows, pa.array(counts.astype(np.int32)), pc.binary_length(texts).cast(pa.int64())


def separator(artifact: bytes) -> int | None:
    """Return the id of the separator, a special token that no text produces; None where there is none."""
    tokenizer = tokens.piece_encoder(artifact).tokenizer
    special = {
        token.content: number
        for number, token in tokenizer.get_added_tokens_decoder().items()
        if token.special
    }
    return next((special[name] for name in SEPARATORS if name in special), None)
