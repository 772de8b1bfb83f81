import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UsageError
from common.words import words
from etl.duplicates import minhash, tokens
from etl.duplicates.minhash import Banding, sketch
from tests.etl import documents

# Letters that normalisation changes, joins and splits, other scripts, and separators of words.
ALPHABET = (
    "aAbB_09 \n\t-.,…“ﬁÅß\u0130\u0301\u2126Ａ①漢字かなÅé\u00ad\u200b\U0001f600٣"
    "\u2028ाตำं॥。、，ー\ufe0f\U0001f3fd\U00020000ည်ក្"
)
TEXTS = st.lists(st.text(ALPHABET, max_size=60), min_size=1, max_size=8)
BANDING = Banding(28, 5)


def found_tokens(texts: list[str | None]) -> list[tuple[str, ...]]:
    found = tokens.tokenise(pa.array(texts, pa.string()))
    several = [
        found.buffer[start : start + length].tobytes().decode()
        for start, length in zip(found.starts, found.lengths, strict=True)
    ]
    bounds = found.offsets.tolist()
    return [tuple(several[bounds[i] : bounds[i + 1]]) for i in range(len(texts))]


@given(TEXTS)
def test_tokens_are_the_words_of_normalised_text(texts: list[str]) -> None:
    assert found_tokens([*texts]) == [documents.tokens(text) for text in texts]


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_tokens_of_any_text(texts: list[str]) -> None:
    assert found_tokens([*texts]) == [documents.tokens(text) for text in texts]


@given(st.text(max_size=60) | st.text(ALPHABET, max_size=60))
def test_words_of_one_text_are_the_tokens_of_a_batch(text: str) -> None:
    assert tuple(words(text)) == documents.tokens(text)


@given(TEXTS, st.integers(0, 3))
def test_tokens_of_a_slice_are_those_of_its_texts(texts: list[str], begin: int) -> None:
    part = pa.array([*texts, "a b"], pa.string()).slice(begin)
    found, copied = tokens.tokenise(part), tokens.tokenise(pa.array(part.to_pylist(), pa.string()))
    assert np.array_equal(found.buffer, copied.buffer)
    assert np.array_equal(found.offsets, copied.offsets)


def test_no_text_is_an_empty_text() -> None:
    assert found_tokens([None, "a b", ""]) == [(), ("a", "b"), ()]


@given(TEXTS, st.integers(1, 6))
def test_shingle_sets_are_those_of_the_definition(texts: list[str], size: int) -> None:
    values, offsets = minhash.shingle_sets(tokens.tokenise(pa.array(texts, pa.string())), size)
    found = [values[offsets[i] : offsets[i + 1]].tolist() for i in range(len(texts))]
    expected = [documents.shingles(text, size) for text in texts]
    assert [len(one) for one in found] == [len(one) for one in expected]
    assert all(one == sorted(set(one)) for one in found)
    for i, one in enumerate(found):
        for j, other in enumerate(found):
            assert len(set(one) & set(other)) == len(expected[i] & expected[j])


@given(TEXTS)
def test_texts_have_one_hash_exactly_when_they_are_equal_once_folded(texts: list[str]) -> None:
    hashes = sketch(pa.array(texts, pa.string()), 5, BANDING, set()).content_hash
    forms = [documents.form(text) for text in texts]
    assert all(len(digest) == 16 for digest in hashes)
    for one, first in zip(hashes, forms, strict=True):
        for other, second in zip(hashes, forms, strict=True):
            assert (one == other) == (first == second)


@given(TEXTS)
def test_short_texts_have_one_hash_of_signs_exactly_when_their_signs_are_equal(texts: list[str]) -> None:
    found = [sketch(pa.array([text]), 5, BANDING, set()).signs[0] for text in texts]
    expected = [documents.signs(text) for text in texts]
    assert sketch(pa.array(texts, pa.string()), 5, BANDING, set()).signs.tolist() == [
        0 if text in texts[:i] or documents.form(text) in map(documents.form, texts[:i]) else found[i]
        for i, text in enumerate(texts)
    ]
    for one, first in zip(found, expected, strict=True):
        assert (one == 0) == (first is None)
        for other, second in zip(found, expected, strict=True):
            assert (one == other) == (first == second)


def test_long_tokens_differ_in_any_byte() -> None:
    word = "x" * 300
    texts = [word, *(word[:i] + "y" + word[i + 1 :] for i in range(300)), word[:-1], word + "x"]
    hashes = tokens.token_hashes(tokens.tokenise(pa.array(texts)))
    assert len(set(hashes.tolist())) == len(texts)


@given(st.lists(st.sampled_from(documents.planted()), min_size=1, max_size=30), st.integers(1, 30))
def test_a_sketch_does_not_depend_on_the_batch(texts: list[str], cut: int) -> None:
    whole = sketch(pa.array(texts), 5, BANDING, set())
    seen: set[bytes] = set()
    parts = [
        sketch(pa.array(part, pa.string()), 5, BANDING, seen) for part in (texts[:cut], texts[cut:]) if part
    ]
    assert whole.content_hash == [digest for part in parts for digest in part.content_hash]
    assert whole.sketch_owner.tolist() == [flag for part in parts for flag in part.sketch_owner.tolist()]
    assert whole.values.tolist() == [value for part in parts for value in part.values.tolist()]
    assert whole.bands.tolist() == [keys for part in parts for keys in part.bands.tolist()]


def test_copies_carry_nothing() -> None:
    found = sketch(pa.array(["a b c", " A b\tC", "a b d"]), 5, BANDING, set())
    assert found.sketch_owner.tolist() == [True, False, True]
    assert np.diff(found.offsets).tolist() == [1, 0, 1]
    assert found.bands.shape == (2, 28)


def test_banding_of_the_default_similarity() -> None:
    assert Banding.for_similarity(0.8) == Banding(28, 5)


@pytest.mark.parametrize("similarity", [0.05, 0.3, 0.5, 0.65, 0.8, 0.9, 0.95, 0.99, 1.0])
def test_banding_finds_pairs_at_every_similarity(similarity: float) -> None:
    banding = Banding.for_similarity(similarity)
    assert banding.recall(similarity) >= 0.99997
    assert banding.rows == 1 or banding.bands * banding.rows <= minhash.MOST_HASHES


def test_too_low_a_similarity_is_refused() -> None:
    with pytest.raises(UsageError, match=r"deduplicate\.similarity = 0\.001 is too low"):
        Banding.for_similarity(0.001)


@pytest.mark.parametrize(("size", "common"), [(9, 8), (45, 40), (450, 400)])
def test_sets_at_the_threshold_share_a_band(size: int, common: int) -> None:
    """At Jaccard 0.8 exactly, 0.06 of 4,000 pairs may be missed; at 0.3 nearly all must be."""
    rng, pairs = np.random.default_rng(5), 4_000

    def keys_of(first: int, step: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        sets = np.concatenate([pool[i, first : first + size] for i in range(0, pairs, step)])
        offsets = np.arange(0, len(sets) + 1, size)
        return minhash.band_keys(*minhash.distinct_sorted(sets, offsets), BANDING)

    pool = rng.integers(-(2**63), 2**63 - 1, (pairs, 3 * size))
    # |x| = |y| = size, common shingles c: J = c / (2·size - c); 8/10, 40/50, 400/500.
    assert common / (2 * size - common) == 0.8
    one, two = keys_of(0, 1), keys_of(size - common, 1)
    assert (one == two).any(axis=1).sum() >= pairs - 2
    distant = keys_of(size - size // 2, 1)
    assert (one == distant).any(axis=1).mean() < 0.2


def test_agreement_of_minhash_values_estimates_the_similarity() -> None:
    rng = random.Random(1)
    words = documents.prose(rng, 2_000)
    texts = [" ".join(words), " ".join(documents.edited(rng, words, 0.05))]
    values, offsets = minhash.shingle_sets(tokens.tokenise(pa.array(texts)), 5)
    hashes = minhash.minhash(values, offsets, 4_000)
    exact = documents.jaccard(*(documents.shingles(text) for text in texts))
    assert (hashes[:, 0] == hashes[:, 1]).mean() == pytest.approx(exact, abs=0.04)
