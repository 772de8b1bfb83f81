"""Words and tokens of texts in scripts without white space between words."""

import unicodedata
from collections import Counter

import pytest
from tokenizers import Tokenizer

from common.storage import Storage
from etl.encoders import tokens
from etl.encoders.byte_level import PieceEncoder
from etl.spark.sampled_words import words_of
from schemas.features.tokens import TokensFeature
from tests.etl.scripts_of_texts import SCRIPTS, UNSPACED, text


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("手机很好。iPhone 15 The", ["iphone", "the", "很好", "手机", "机很"]),
        ("好 not 好", ["not", "好"]),
        ("ที่นี่ ๑๒๓", ["ที่นี่"]),
        ("ភាសាខ្មែរ", ["ខ្មែ", "ភាសា", "មែរ", "សាខ្"]),
        ("コーヒー・豆", ["コー", "ヒー", "ーヒ", "豆"]),
        ("naïve ქართული fox_x", ["fox", "naïve", "x", "ქართული"]),
    ],
)
def test_words_of_a_sample_are_pairs_of_characters(written: str, found: list[str]) -> None:
    assert words_of([written]) == sorted(found)


@pytest.mark.parametrize("name", UNSPACED)
def test_texts_share_words_so_that_versions_can_be_compared(name: str) -> None:
    found = Counter(word for seed in range(40) for word in words_of([text(name, 60, seed)]))
    often = [word for word, records in found.items() if records >= 5]
    assert len(often) > 80
    assert sum(found[word] for word in often) > 0.2 * sum(found.values())
    assert all(len(word) > 1 for word in often)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_word_takes_few_tokens_in_any_script(name: str) -> None:
    texts = [text(name, 150, seed) for seed in range(200)]
    feature = TokensFeature(name="tokens", column="text", vocabulary=4000)
    artifact = tokens.fit(texts, feature, Storage())
    unseen = [text(name, 150, seed) for seed in range(200, 220)]
    rows, counts = PieceEncoder.of(artifact).encode(unseen, 2000, 0)
    assert counts.sum() / (20 * 150) < 2
    library = Tokenizer.from_str(artifact.decode())
    library.encode_special_tokens = True
    for row, count, written in zip(rows, counts, unseen, strict=True):
        assert row[:count].tolist() == library.encode(written, add_special_tokens=False).ids
        assert library.decode(row[:count].tolist()) == unicodedata.normalize("NFKC", written)
