"""The token encoder: fixed-length rows, truncation, determinism."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer

from common.errors import DataError
from common.storage import Storage
from etl.encoders import tokens
from schemas.features.tokens import TokensFeature
from tests.training.pretrained_folder import a_tokenizer

TEXTS = [f"the licence number {n} grants use of the software to {'you ' * (n % 7)}" for n in range(200)]
FEATURE = TokensFeature(name="tokens", column="text", vocabulary=400, length=8)


@pytest.fixture(scope="module")
def artifact() -> bytes:
    return tokens.fit(TEXTS, FEATURE, Storage())


@pytest.mark.parametrize("truncate", ["head", "head_tail"])
@pytest.mark.parametrize("length", [2, 5, 8])
def test_truncation_keeps_the_ends(artifact: bytes, length: int, truncate: str) -> None:
    feature = FEATURE.model_copy(update={"length": length, "truncate": truncate})
    texts = [*(text[:end] for end, text in enumerate(TEXTS[:40])), "日本語 licence " * 9]
    rows, counts = tokens.encode(pa.array(texts), artifact, feature)
    for text, row, count in zip(texts, rows.to_pylist(), counts.to_pylist(), strict=True):
        ids = Tokenizer.from_str(artifact.decode()).encode(text, add_special_tokens=False).ids
        assert count == len(ids)
        front = length if truncate == "head" else (length + 1) // 2
        kept = ids if len(ids) <= length else ids[:front] + ids[len(ids) - (length - front) :]
        assert np.frombuffer(row, "<u2").tolist() == kept + [0] * (length - len(kept))


def test_training_does_not_depend_on_the_order_of_the_texts(artifact: bytes) -> None:
    shuffled = TEXTS.copy()
    random.Random(3).shuffle(shuffled)
    assert tokens.fit(shuffled, FEATURE, Storage()) == artifact
    assert tokens.fit(TEXTS[:-50], FEATURE, Storage()) != artifact


def test_rows_are_fixed_little_endian_and_padded_with_zero(artifact: bytes) -> None:
    texts = ["", "the licence", "the software " * 20, "日本語 ✓ never seen"]
    rows, counts = tokens.encode(pa.array(texts), artifact, FEATURE)
    assert rows.type == pa.binary()
    assert counts.type == pa.int32()
    matrix = np.frombuffer(b"".join(rows.to_pylist()), "<u2").reshape(4, 8)
    assert counts[0].as_py() == 0
    assert not matrix[0].any()
    assert (matrix[1] > 0).sum() == counts[1].as_py()
    assert counts[2].as_py() > 8
    assert (matrix[2] > 0).all()
    assert (matrix[3] > 0).all()  # byte-level: no character is unknown


def test_large_vocabularies_take_four_bytes(artifact: bytes) -> None:
    large = FEATURE.model_copy(update={"vocabulary": 70_000})
    assert (tokens.dtype(FEATURE), tokens.dtype(large)) == ("uint16", "uint32")
    rows, _ = tokens.encode(pa.array(["the licence"]), artifact, large)
    assert len(rows[0].as_py()) == 8 * 4


def test_the_offsets_of_a_sliced_batch_do_not_matter(artifact: bytes) -> None:
    whole, _ = tokens.encode(pa.array(TEXTS[:10]), artifact, FEATURE)
    sliced, _ = tokens.encode(pa.array(TEXTS[:10]).slice(4, 3), artifact, FEATURE)
    assert sliced.to_pylist() == whole.to_pylist()[4:7]


def test_a_given_tokenizer_is_taken_as_it_is_or_refused(artifact: bytes, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    given_one = FEATURE.model_copy(update={"tokenizer": str(file)})
    file.write_bytes(artifact)
    assert tokens.fit((), given_one, Storage()) == artifact
    with pytest.raises(DataError, match=r"more than feature\.vocabulary = 300"):
        tokens.fit((), given_one.model_copy(update={"vocabulary": 300}), Storage())
    file.write_bytes(artifact.replace(b"<pad>", b"<xyz>"))
    with pytest.raises(DataError, match="token 0 is '<xyz>'"):
        tokens.fit((), given_one, Storage())
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"is not a tokenizer\.json"):
        tokens.fit((), given_one, Storage())
    file.unlink()
    with pytest.raises(DataError, match="is missing"):
        tokens.fit((), given_one, Storage())


def test_a_pretrained_models_own_cutting_and_padding_do_not_count(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_bytes(a_tokenizer())  # it cuts and pads to six tokens
    feature = TokensFeature(name="tokens", column="text", tokenizer=str(file), length=8)
    content = tokens.fit((), feature, Storage())
    assert content == file.read_bytes()
    texts = ["The LICENCE is granted", "licences " * 5, "[PAD] no", "the " * 7 + "text"]
    rows, counts = tokens.encode(pa.array(texts), content, feature)
    found = [np.frombuffer(row, "<u2").tolist() for row in rows.to_pylist()]
    # Without special tokens, which the model adds; such a token's name in a text is text.
    assert found == [
        [4, 5, 6, 7, 0, 0, 0, 0],
        [5, 8, 5, 8, 5, 8, 5, 8],
        [1, 1, 1, 9, 0, 0, 0, 0],
        [4, 4, 4, 4, 4, 4, 4, 10],
    ]
    assert counts.to_pylist() == [4, 10, 4, 8]
