"""Repeated lines, paragraphs and n-grams; the n-grams against their literal definition."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.rules.repetition import (
    MOST_FREQUENT,
    REPEATED,
    FilterRepeatedLines,
    FilterRepeatedNgrams,
    FilterRepeatedParagraphs,
    ngram_shares,
    repeated_shares,
)
from schemas.cleaning import RepeatedLinesRule, RepeatedNgramsRule, RepeatedParagraphsRule


@pytest.mark.parametrize(
    ("pieces", "shares"),
    [
        ([], (0, 0)),
        (["a", "b"], (0, 0)),
        (["a", "a", "bb", "a"], (0.5, 0.4)),
        (["aaaa", "aaaa", "b", "c"], (0.25, 0.4)),
    ],
)
def test_shares_of_what_occurred_before(pieces: list[str], shares: tuple[float, float]) -> None:
    assert repeated_shares(pieces) == pytest.approx(shares)


def test_either_share_of_lines_suffices() -> None:
    rule = FilterRepeatedLines(RepeatedLinesRule(maximum_lines=0.3, maximum_characters=0.3))
    assert rule.drops("a\n a\na\nb\nsomething else of some length")
    assert rule.drops("something of some length\n\nsomething of some length\nb\nc\nd")
    assert not rule.drops("a\nb\na\nsomething of some length\nand more")
    assert not rule.drops("")


def test_paragraphs_are_what_blank_lines_part() -> None:
    rule = FilterRepeatedParagraphs(RepeatedParagraphsRule(maximum_paragraphs=0.4, maximum_characters=0.4))
    assert rule.drops("one\ntwo\n \none\ntwo\n\n\n")
    assert not rule.drops("one\ntwo\none\ntwo")


def by_definition(words: list[str]) -> dict[int, float]:
    total = sum(map(len, words))
    shares = dict.fromkeys((*MOST_FREQUENT, *REPEATED), 0.0)
    for n in shares:
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        counts = Counter(grams)
        if n in MOST_FREQUENT and counts and max(counts.values()) > 1:
            most = max(counts.values())
            shares[n] = max(most * sum(map(len, g)) for g, count in counts.items() if count == most) / total
            shares[n] = min(shares[n], 1.0)
        if n in REPEATED:
            seen: set[tuple[str, ...]] = set()
            inside = set()
            for i, gram in enumerate(grams):
                if gram in seen:
                    inside |= set(range(i, i + n))
                seen.add(gram)
            shares[n] = sum(len(words[i]) for i in inside) / max(total, 1)
    return shares


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "dddd"]), max_size=40), st.integers(1, 3))
def test_shares_of_ngrams_are_those_of_the_definition(words: list[str], times: int) -> None:
    assert ngram_shares(words * times) == pytest.approx(by_definition(words * times))


def test_each_limit_drops_a_text_on_its_own() -> None:
    names = {n: f"most_frequent_{n}" for n in MOST_FREQUENT} | {n: f"repeated_{n}" for n in REPEATED}
    never = dict.fromkeys(names.values(), 1.0)
    text = " ".join(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] * 2)
    assert not FilterRepeatedNgrams(RepeatedNgramsRule(**never)).drops(text)
    for n, name in names.items():
        share = by_definition(text.split())[n]
        assert 0 < share < 1
        assert FilterRepeatedNgrams(RepeatedNgramsRule(**never | {name: share - 0.01})).drops(text)
        assert not FilterRepeatedNgrams(RepeatedNgramsRule(**never | {name: share + 0.01})).drops(text)


def test_running_text_stays_and_a_refrain_goes() -> None:
    rule = FilterRepeatedNgrams(RepeatedNgramsRule())
    sentence = "The seller delivers the goods within thirty days and the buyer pays what the invoice says"
    assert not rule.drops(f"{sentence}. Whoever is late owes a fine, which a court may lower on request.")
    assert rule.drops(f"{sentence}\n" * 3)
    assert not rule.drops("")
    assert not rule.drops("word")
