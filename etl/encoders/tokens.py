"""Subword tokens: byte-level BPE of the `tokenizers` library, at a fixed length.

BPE because its result depends on the multiset of the texts alone; WordPiece's also depends on their order (measured).
Byte-level, so that every text has tokens and no character is unknown.
"""

import functools
import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from common import storage
from common.errors import DataError
from common.storage import Storage
from etl.encoders.byte_level import CUT, PieceEncoder
from etl.encoders.fixed import fixed_rows
from schemas.features import TextFeature
from schemas.features.tokens import TokensFeature

ARTIFACT = "tokenizer"

PADDING = "<pad>"
"""Special token 0, which no text produces."""


def fit(texts: Iterable[str], feature: TokensFeature, options: Storage) -> bytes:
    """Return the tokenizer as the bytes of a `tokenizer.json`: trained on `texts`, or the configured file.

    Raises DataError where the configured file is not a tokenizer whose token 0 can be the padding.
    """
    return (
        load(feature, options)
        if feature.tokenizer is not None
        else train(texts, feature, [PADDING], normalizers.NFKC())
    )


def train(
    texts: Iterable[str],
    feature: TextFeature,
    special_tokens: Sequence[str],
    normalizer: normalizers.Normalizer | None = None,
) -> bytes:
    """Return a tokenizer trained on `texts`, whose first ids are the special tokens.

    Without a normalizer the tokens of any text stand for exactly that text.
    """
    tokenizer = Tokenizer(models.BPE())
    # Capitals stay: on the demo's texts they are worth two points of macro-F1.
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CUT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=feature.vocabulary,
        min_frequency=2,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str(pretty=False).encode()


def load(feature: TextFeature, options: Storage) -> bytes:
    """Return the configured tokenizer. Raises DataError where its token 0 cannot be the padding."""
    assert feature.tokenizer is not None
    content = storage.read_bytes(feature.tokenizer, options)
    try:
        tokenizer = Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises bare Exception for anything that it cannot parse
        if type(error) is not Exception and not isinstance(error, ValueError):
            raise
        raise DataError(
            f"{feature.tokenizer} is not a tokenizer.json of the tokenizers library: {error}"
        ) from error
    first = tokenizer.id_to_token(0)
    if first is None or "pad" not in first.lower():
        raise DataError(
            f"{feature.tokenizer} cannot be used: its token 0 is {first!r}, but 0 is the padding in the shards; "
            "give a tokenizer whose token 0 is a padding token such as <pad>"
        )
    if feature.vocabulary < tokenizer.get_vocab_size():
        raise DataError(
            f"{feature.tokenizer} has {tokenizer.get_vocab_size():,} tokens, more than feature.vocabulary = "
            f"{feature.vocabulary:,}; raise that key"
        )
    return content


def encode(texts: pa.Array, artifact: bytes, feature: TokensFeature) -> tuple[pa.Array, pa.Array]:
    """Return rows of exactly `length` token ids, truncated and padded with 0, and the token counts before truncation.

    `texts`: string array of n rows without nulls. Returns a binary array (n rows of length × itemsize bytes,
    little-endian) and an int32 array.
    """
    encoder = piece_encoder(artifact)
    tail = feature.length // 2 if feature.truncate == "head_tail" else 0
    rows, counts = encoder.encode(texts.to_pylist(), feature.length, tail)
    return fixed_rows(rows.astype(np.dtype(dtype(feature)).newbyteorder("<"))), pa.array(
        counts.astype(np.int32)
    )


def dtype(feature: TextFeature) -> str:
    """Return `uint16` up to 65,536 tokens, else `uint32`."""
    return "uint16" if feature.vocabulary <= 1 << 16 else "uint32"


def shape(feature: TextFeature) -> list[int]:
    """Return the shape of one row: `[length]`."""
    return [feature.length]


def vocabulary(artifact: bytes) -> int | None:
    """Return the number of token ids, padding included."""
    return int(piece_encoder(artifact).tokenizer.get_vocab_size())


def piece_encoder(artifact: bytes) -> PieceEncoder:
    """Return the encoder of a tokenizer, cached."""
    return _encoder(hashlib.sha256(artifact).digest(), artifact)


@functools.lru_cache(maxsize=4)
def _encoder(_key: bytes, artifact: bytes) -> PieceEncoder:
    """Return a cached encoder: a worker parses a tokenizer once, not once a batch, and remembers the pieces it met."""
    return PieceEncoder.of(artifact)
