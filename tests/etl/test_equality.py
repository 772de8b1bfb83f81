"""What is equal, near and different: pairs of texts, and the limit between short and long ones."""

import random
import re
import unicodedata
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.words import UNSPACED, words
from etl.duplicates.connecting import Buckets
from etl.duplicates.equality import ALL_FOLDED, Equality
from etl.duplicates.large_buckets import connect_buckets
from etl.duplicates.minhash import Banding, sketch
from etl.duplicates.similarity import SimilarSets
from tests.etl import documents

EXACT, NEAR, DIFFERENT = "exact", "near", "different"


def relation(one: str, other: str, equality: Equality = ALL_FOLDED) -> str:
    """Return what the duplicate finder makes of two texts in one bucket, and check that their order is the same."""
    found = set()
    for texts in ([one, other], [other, one]):
        sketches = sketch(pa.array(texts), 5, Banding(28, 5), set(), equality)
        sets = SimilarSets(sketches.values, sketches.offsets, 0.8, sketches.signs)
        if np.diff(sketches.offsets).all():
            connect_buckets(sets, Buckets.of(np.zeros(2, dtype=np.int64), np.arange(2)))
        is_near = sets.labels.tolist() == [0, 0]
        found.add(
            EXACT if sketches.content_hash[0] == sketches.content_hash[1] else NEAR if is_near else DIFFERENT
        )
    assert len(found) == 1
    return found.pop()


def prose(count: int, seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(count)]


SIGNS = [
    ("C", "C++"),
    ("C", "C#"),
    ("C++", "C#"),
    ("-5", "5"),
    ("−5", "5"),
    ("+5", "-5"),
    ("3.14", "314"),
    ("1.5", "1,5"),
    ("a == b", "a != b"),
    ("a <= b", "a >= b"),
    ("a ≤ b", "a ≥ b"),
    ("a + b", "a - b"),
    ("a && b", "a || b"),
    ("x = -y", "-x = y"),
    ("$5", "€5"),
    ("5%", "5‰"),
    ("👍", "👎"),
    ("a\0b", "a b"),
    ("👍🏻", "👍🏿"),
    ("❤", "❤️"),
    ("☺︎", "☺️"),
    ("👨‍👩‍👧", "👨‍👩‍👦"),
    ("1", "1️⃣"),
    (":)", ":("),
    ("yes?", "yes!"),
    ("yes?", "yes."),
    ("yes", "yes…"),
    ("(yes) no", "(yes no)"),
    ("जाता", "जाती"),
    ("x", "x̂"),
    ("קמץ", "קָמֵץ"),
    ("#tag", "@tag"),
    ("→", "←"),
    ("好？", "好！"),
    ("三.五", "三五"),
    ("0.五", "0五"),
    ("约.5元", "约5元"),
]
MOVED_SIGNS = [
    ("if (a < b) return a; if (a > b) return b;", "if (a > b) return a; if (a < b) return b;"),
    ("2 + 2 = 4 and 2 - 2 = 0", "2 - 2 = 4 and 2 + 2 = 0"),
    ("x = 1; y = 2; x += 1; y -= 1", "x += 1; y = 2; x = 1; y -= 1"),
]
REPETITIONS = [
    ("ha " * 5, "ha " * 7),
    ("no " * 5, "no " * 42),
    ("0000 " * 5, "0000 " * 6),
    ("0 1 " * 3, "1 0 " * 3),
    ("yes no " * 3, "no yes " * 3 + "no"),
    ("0 1 2 3 4 0 1 2 3 4", "3 4 0 1 2 3 4 0 1 2"),
    ("哈" * 5, "哈" * 7),
    ("あ" * 6, "あ" * 9),
]


@pytest.mark.parametrize(("one", "other"), SIGNS)
@pytest.mark.parametrize("count", [0, 3, 44])
def test_short_texts_that_differ_in_signs_are_different(one: str, other: str, count: int) -> None:
    """At either end, in the middle, and alone."""
    others = prose(count)
    for place in {0, count // 2, count}:
        first, second = (" ".join([*others[:place], text, *others[place:]]) for text in (one, other))
        assert relation(first, second) == DIFFERENT


@pytest.mark.parametrize(("one", "other"), MOVED_SIGNS)
@pytest.mark.parametrize("count", [0, 30])
def test_short_texts_with_the_same_signs_in_other_places_are_different(
    one: str, other: str, count: int
) -> None:
    test_short_texts_that_differ_in_signs_are_different(one, other, count)


@pytest.mark.parametrize(("one", "other"), REPETITIONS)
def test_short_texts_that_repeat_words_are_alike_only_with_all_of_them_in_order(one: str, other: str) -> None:
    assert relation(one, other) == DIFFERENT
    assert relation(one, f"{one.strip()}.") == NEAR


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The MIT License", "  the\tmit\n\nLICENSE "),
        ("Ａ ① ﬁ ｱ", "a 1 fi ア"),
        ("Straße", "STRASSE"),
        ("ΐ ΰ ǰ", "Ϊ\u0301 Ϋ\u0301 J\u030c"),
        ("e\u0301te\u0301", "été"),
        ("a\u2028b\u00a0c", "a b c"),
        ("👍  👎", "👍 👎"),
        ("", " \n"),
    ],
)
def test_texts_that_are_equal_once_folded_are_exact_duplicates(one: str, other: str) -> None:
    assert relation(one, other) == EXACT


def test_each_folding_can_be_switched_off() -> None:
    pairs = {
        "fold_case": ("The US", "the us"),
        "nfkc": ("x² is", "x2 is"),
        "fold_white_space": ("if a\n  b", "if a\nb"),
    }
    for key, pair in pairs.items():
        assert relation(*pair) == EXACT
        assert relation(*pair, Equality(**{key: False})) == DIFFERENT
        for other in pairs.keys() - {key}:
            assert relation(*pair, Equality(**{other: False})) == EXACT
        first, second = (" ".join([text, *prose(60)]) for text in pair)
        assert relation(first, second, Equality(**{key: False})) == NEAR


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("the licence, as it is", "The licence as it is."),
        ("今天天气很好，我们去公园", "今天天气很好，我们去公园。"),
        ("今天天气很好，我们去", "今天天气很好、我们去。"),
        ("手机很好。iPhone也好", "手机很好，iPhone也好"),
        ("共三. 五", "共三 五"),
        ("वह जाता है।", "वह जाता है"),
    ],
)
def test_full_stops_and_commas_after_words_make_near_duplicates(one: str, other: str) -> None:
    assert relation(one, other) == NEAR


def test_signs_and_capitals_of_a_long_copy_do_not_matter() -> None:
    text = prose(50)
    for copy in (
        ", ".join(text),
        "! ".join(text).upper(),
        " ".join(f"({word})" for word in text),
        "👍 ".join(text),
    ):
        assert relation(" ".join(text), copy) == NEAR


def test_a_copy_on_the_other_side_of_the_limit_is_found() -> None:
    text = prose(55)
    for short, long in ((49, 50), (49, 51), (48, 52), (45, 50)):
        plain, signed = " ".join(text[:short]), "! ".join(text[:long])
        assert relation(plain, signed) == NEAR
        assert relation("? ".join(text[:short]), signed) == NEAR
    assert relation(" ".join(text[:49]), "! ".join(text[:49])) == DIFFERENT
    assert relation(" ".join(text[:50]), "! ".join(text[:50])) == NEAR
    assert relation(" ".join(text[:49]), "! ".join(text[:49]), Equality(signs_below=49)) == NEAR
    assert relation(" ".join(text[:4]), "! ".join(text[:4]), Equality(signs_below=0)) == NEAR


def test_one_word_more_makes_a_near_duplicate_from_eight_words_on() -> None:
    text = prose(20)
    for count in range(1, 12):
        found = relation(" ".join(text[:count]), " ".join(text[: count + 1]))
        assert found == (NEAR if count >= 8 else DIFFERENT)


def test_a_word_in_the_middle_keeps_texts_of_48_words_apart() -> None:
    text = prose(60)
    for count in (10, 30, 48, 49, 60):
        changed = [*text[: count // 2], "changed", *text[count // 2 + 1 : count]]
        assert relation(" ".join(text[:count]), " ".join(changed)) == (NEAR if count >= 49 else DIFFERENT)


LATIN = "".join(
    c
    for c in map(chr, range(0x20, 0x250))
    if c != "İ" and unicodedata.normalize("NFKC", c).casefold().isprintable()
)


@given(st.lists(st.text(LATIN, min_size=1, max_size=8), min_size=60, max_size=90), st.data())
def test_long_latin_texts_are_near_duplicates_by_their_words_alone(
    text: list[str], data: st.DataObject
) -> None:
    """The definition in a few lines, as it always was."""

    def shingles(copy: str) -> set[tuple[str, ...]]:
        found = re.findall(r"\w+", unicodedata.normalize("NFKC", copy).casefold())
        return {tuple(found[i : i + 5]) for i in range(len(found) - 4)}

    copy = list(text)
    for place in data.draw(st.lists(st.integers(0, len(text) - 1), max_size=6)):
        copy[place] = data.draw(st.text(LATIN, max_size=8))
    one, other = " ".join(text), data.draw(st.sampled_from([" ", ", ", " - "])).join(copy)
    if min(len(words(one)), len(words(other))) < 50:
        return
    similar = documents.jaccard(shingles(one), shingles(other)) >= 0.8
    assert (relation(one, other) != DIFFERENT) == similar


UNSPACED_TEXTS = [
    "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳云腾致雨",
    "あいうえおかきくけこさしすせそタチツテトナニヌネノ漢字",
    "กขคงจชซญดตถทนบปผฝพฟภมยรลวศสหอ",
    "កខគឃងចឆជឈញដឋឌឍណតថទធន",
    "ກຂຄງຈສຊຍດຕຖທນບປຜຝພຟ",
    "ကခဂဃငစဆဇဈညဋဌဍဎဏတထဒဓန",
]


@pytest.mark.parametrize("alphabet", UNSPACED_TEXTS)
def test_one_character_of_140_makes_a_near_duplicate_in_scripts_without_white_space(alphabet: str) -> None:
    rng = random.Random(3)
    text = "".join(rng.choices(alphabet, k=140))
    assert len(words(text)) == 140
    changed = text[:70] + ("月" if text[70] != "月" else "日") + text[71:]
    assert relation(text, changed) == NEAR
    assert relation(text, "".join(rng.choices(alphabet, k=140))) == DIFFERENT
    mixed = f"iPhone15 {text[:60]}，README.md{text[60:]} 👍"
    assert relation(mixed, mixed.replace(text[30], "月", 1)) == NEAR


def test_marks_belong_to_the_word_that_they_stand_on() -> None:
    assert words("जाता जाती") == ["जाता", "जाती"]
    assert words("ọ̀rẹ́ x̂") == ["ọ̀rẹ́", "x̂"]
    assert words("คุณรัก") == ["คุ", "ณ", "รั", "ก"]
    assert words("❤️ ok 👍🏽 1️⃣ ्") == ["ok", "1️⃣"]


def test_the_scripts_without_white_space_are_those_of_the_names_of_their_letters() -> None:
    names = (
        "CJK UNIFIED",
        "CJK COMPAT",
        "HIRAGANA",
        "KATAKANA",
        "BOPOMOFO",
        "YI ",
        "THAI",
        "LAO",
        "KHMER",
        "MYANMAR",
        "TAI LE",
        "NEW TAI LUE",
        "TAI THAM",
        "TAI VIET",
    )
    letters = [c for c in map(chr, range(0x323B0)) if c.isalpha() and unicodedata.is_normalized("NFKC", c)]
    missing = [
        c
        for c in letters
        if unicodedata.name(c, "").startswith(names) and not any(a <= ord(c) <= b for a, b in UNSPACED)
    ]
    assert missing == []
    spaced = (
        "LATIN",
        "GREEK",
        "CYRILLIC",
        "ARABIC",
        "HEBREW",
        "DEVANAGARI",
        "HANGUL",
        "ETHIOPIC",
        "ARMENIAN",
        "TAMIL",
    )
    taken = [
        c
        for c in letters
        if unicodedata.name(c, "").startswith(spaced) and any(a <= ord(c) <= b for a, b in UNSPACED)
    ]
    assert taken == []


def test_short_texts_that_differ_in_signs_stay_apart_in_a_large_bucket() -> None:
    """100 forms of one text of 30 words, each twice, and long texts that begin like it."""
    text, signs = prose(30), ["".join(pair) for pair in combinations("!?#%&*+=<>/|~^$@", 2)][:100]
    texts = [" ".join([*text, sign]) for sign in signs] + [" ".join([*text, ".", sign]) for sign in signs]
    longer = [" ".join([*prose(46, 2), *prose(4, seed)]) for seed in range(100, 180)]
    shorter = [" ".join([*prose(46, 2), sign]) for sign in signs]
    texts += longer + shorter
    sketches = sketch(pa.array(texts), 5, Banding(28, 5), set())
    sets = SimilarSets(sketches.values, sketches.offsets, 0.8, sketches.signs)
    connect_buckets(sets, Buckets.of(np.zeros(len(texts), dtype=np.int64), np.arange(len(texts))))
    found = {frozenset(np.flatnonzero(sets.labels == label).tolist()) for label in np.unique(sets.labels)}
    assert found == documents.clusters_of(texts)
    assert len(found) > 100


def test_long_and_short_texts_of_one_form_are_connected_without_listing_all_pairs() -> None:
    """A number beside a sign gives each short text signs of its own."""
    head = " ".join(prose(47))
    texts = [f"{head} id: {number}{' thank you' * (number % 2)}" for number in range(1000)]
    sketches = sketch(pa.array(texts), 5, Banding(28, 5), set())
    assert np.count_nonzero(sketches.signs) == len(np.unique(sketches.signs)) - 1 == 500
    sets = SimilarSets(sketches.values, sketches.offsets, 0.8, sketches.signs)
    connect_buckets(sets, Buckets.of(np.zeros(1000, dtype=np.int64), np.arange(1000)))
    assert not sets.labels.any()
    assert sets.listed < 10 * len(texts)
