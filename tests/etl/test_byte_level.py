"""The encoder that remembers pieces gives the library's result for every text."""

import json
import random
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from common.storage import Storage
from etl.encoders import byte_level, packed_tokens, tokens
from etl.encoders.byte_level import PieceEncoder
from schemas.features.packed_tokens import PackedTokensFeature
from schemas.features.tokens import TokensFeature

WORDS = [
    "the",
    "licence",
    "grants",
    "you'll",
    "don't",
    "I'd",
    "über",
    "Straße",
    "дом",
    "λόγος",
    "1984",
    "3.14",
]
WORDS += [
    "naïve",
    "x_y",
    "\u2014",
    "\u201cquoted\u201d",
    "\u20ac5",
    "日本語",
    "½",
    "②",
    "e\u0301",
    "ที่นี่",
    "हिन्दी",
]
ALPHABET = [
    *map(chr, range(128)),
    *"éßñжΩ\u2019\u2026\u00a0\u2009\u0085\u00b5\u00ba½²①\u0301\u2028語\U0001f600\u0130ท\u0e35\u0e48ह\u093f",
]


@pytest.fixture(scope="module")
def artifact() -> bytes:
    chosen = random.Random(0)
    texts = [" ".join(chosen.choices(WORDS, k=30)) for _ in range(200)]
    feature = TokensFeature(name="tokens", column="text", vocabulary=600)
    return tokens.fit(texts, feature, Storage())


@pytest.fixture(scope="module")
def encoder(artifact: bytes) -> PieceEncoder:
    return PieceEncoder.of(artifact)


@pytest.fixture(scope="module")
def spaced() -> PieceEncoder:
    """Return an encoder with tokens for runs of white space, so that a cut within one would show."""
    chosen = random.Random(1)
    texts = ["".join(word + " " * chosen.randrange(5) + "\n" * 2 for word in WORDS) for _ in range(200)]
    feature = TokensFeature(name="tokens", column="text", vocabulary=600)
    return PieceEncoder.of(tokens.fit(texts, feature, Storage()))


def encoded(encoder: PieceEncoder, texts: list[str]) -> list[list[int]]:
    rows, counts = encoder.encode(texts, 4000, 0)
    return [row[:count].tolist() for row, count in zip(rows, counts, strict=True)]


def expected(artifact: bytes, texts: list[str]) -> list[list[int]]:
    library = Tokenizer.from_str(artifact.decode())
    library.encode_special_tokens = True
    return [one.ids for one in library.encode_batch(texts, add_special_tokens=False)]


@settings(max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.text(alphabet=ALPHABET, max_size=40),
            st.text(max_size=20),
            st.lists(st.sampled_from([*WORDS, " ", "  ", "\n", "\t", "'s", "'", "<pad>"]), max_size=12).map(
                "".join
            ),
        ),
        max_size=4,
    )
)
def test_the_ids_are_those_of_the_library(encoder: PieceEncoder, artifact: bytes, texts: list[str]) -> None:
    assert encoded(encoder, texts) == expected(artifact, texts)


@pytest.fixture(scope="module")
def exact() -> bytes:
    """Return the tokenizer of a language model."""
    feature = PackedTokensFeature(name="tokens", column="text", encode="packed_tokens", vocabulary=400)
    return packed_tokens.fit([" ".join(WORDS)] * 3, feature, Storage())


@settings(max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.text(alphabet=ALPHABET, max_size=40),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
            st.lists(
                st.sampled_from([*WORDS, " ", "\n", "ทำน้ำ", "你好，世界！", "½①…ﬁ㎏x²"]), max_size=9
            ).map("".join),
        ),
        max_size=4,
    )
)
def test_the_tokens_of_a_language_model_stand_for_exactly_its_texts(exact: bytes, texts: list[str]) -> None:
    encoder = PieceEncoder.of(exact)
    assert encoder.cuts_as_gpt2
    found = encoded(encoder, texts)
    assert found == expected(exact, texts)
    assert [encoder.tokenizer.decode(ids) for ids in found] == texts
    whole, counts = encoder.encode_whole(texts)
    assert whole.tolist() == [one for ids in found for one in ids]
    assert counts.tolist() == [len(ids) for ids in found]


def test_a_tokenizer_of_gpt_2_is_cut_as_before(artifact: bytes) -> None:
    cutting = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    gpt2 = json.dumps({**json.loads(artifact), "pre_tokenizer": cutting}).encode()
    encoder = PieceEncoder.of(gpt2)
    assert encoder.cuts_as_gpt2
    texts = ["some  words, ที่นี่", "ﬁve \u2460 you'll", "日本語 हिन्दी"]
    assert encoded(encoder, texts) == expected(gpt2, texts)
    assert encoded(encoder, texts)[0] != encoded(PieceEncoder.of(artifact), texts)[0]


def test_the_short_way_is_taken_where_both_agree(encoder: PieceEncoder) -> None:
    for text in ("plain \x1c text\x0b", "über Straße", "дом \u2014 \u201cλόγος\u201d", "\u20ac5"):
        assert encoder._cut(text) is not None
    for text in ("日本語", "½", "\u00a0", "\u2028", "e\u0301", "\U0001f600"):
        assert encoder._cut(text) is None


def test_no_character_of_the_short_way_is_cut_in_another_way(encoder: PieceEncoder, artifact: bytes) -> None:
    """Each character alone, in a word, among digits, between spaces, and doubled."""
    taken = [chr(code) for code in range(0x3000) if encoder._cut(chr(code)) is not None]
    assert len(taken) > 900
    texts = [f"{c} a{c}b 1{c}2 {c}{c} {c}'s\n{c}" for c in taken]
    assert encoded(encoder, texts) == expected(artifact, texts)


def test_pieces_are_remembered_within_bounds(artifact: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = PieceEncoder.of(artifact)
    before = encoded(encoder, ["some words", "other words"])
    assert set(encoder.known) == {"some", " words", "other"}
    monkeypatch.setattr(byte_level, "MOST_PIECES", 2)
    assert encoded(encoder, ["other words"]) == before[1:]
    assert set(encoder.known) == {"other", " words"}


@settings(max_examples=200)
@given(
    st.lists(
        st.lists(
            st.sampled_from([*WORDS, " ", "    ", "\n\n", "\t ", "'s", " \u0301", "\u00a0"]), max_size=30
        ).map("".join),
        max_size=5,
    ),
    st.integers(1, 12),
    st.integers(2, 9),
    st.booleans(),
)
def test_a_text_that_is_encoded_in_parts_gives_the_same_row(
    spaced: PieceEncoder, texts: list[str], at_a_time: int, length: int, both_ends: bool
) -> None:
    tail = length // 2 if both_ends else 0
    rows, counts = spaced.encode(texts, length, tail)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(byte_level, "AT_A_TIME", at_a_time)
        in_parts, counts_in_parts = spaced.encode(texts, length, tail)
    assert in_parts.tolist() == rows.tolist()
    assert counts_in_parts.tolist() == counts.tolist()


def test_no_more_than_some_characters_are_encoded_at_a_time(
    artifact: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    encode = PieceEncoder._encode

    def noted(self: PieceEncoder, texts: list[str], length: int, tail: int) -> object:
        asked.append(sum(map(len, texts)))
        return encode(self, texts, length, tail)

    monkeypatch.setattr(PieceEncoder, "_encode", noted)
    monkeypatch.setattr(byte_level, "AT_A_TIME", 100)
    PieceEncoder.of(artifact).encode(["some words " * n for n in (3, 5, 1, 200, 2)], 8, 4)
    assert sum(asked) == 211 * 11
    assert len(asked) >= 23
    assert max(asked) <= 100 + len("words")


def test_nothing_but_white_space_becomes_white_space_at_its_end() -> None:
    """Seams rely on this."""
    for code in range(sys.maxunicode + 1):
        if not 0xD800 <= code < 0xE000 and not chr(code).isspace():
            assert not unicodedata.normalize("NFKC", chr(code))[-1].isspace()


def test_what_a_text_says_is_never_padding(artifact: bytes) -> None:
    for text in ("a <pad> b", "日 <pad>"):
        [ids] = encoded(PieceEncoder.of(artifact), [text])
        assert ids
        assert 0 not in ids


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "NFC"}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {
            "pre_tokenizer": {
                "type": "ByteLevel",
                "add_prefix_space": True,
                "trim_offsets": True,
                "use_regex": True,
            }
        },
    ],
)
def test_other_tokenizers_are_left_to_the_library(artifact: bytes, change: dict[str, object]) -> None:
    other = json.dumps({**json.loads(artifact), **change}).encode()
    texts = ["some  words", "ﬁve \u2460", "日本語"]
    encoder = PieceEncoder.of(other)
    assert not encoder.cuts_as_gpt2
    assert encoded(encoder, texts) == expected(other, texts)
