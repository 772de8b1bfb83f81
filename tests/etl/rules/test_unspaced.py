"""Filters of running text in scripts without white space between words."""

import random
from pathlib import Path

import pytest

from common.words import runs
from etl.rules.applying import RuleSet
from etl.rules.repetition import FilterRepeatedNgrams
from etl.rules.words import (
    FilterAlphabeticWords,
    FilterStopWords,
    FilterSymbolRatio,
    FilterWordCount,
    FilterWordLength,
)
from schemas.cleaning import (
    AlphabeticWordsRule,
    RepeatedNgramsRule,
    StopWordsRule,
    SymbolRatioRule,
    WordCountRule,
    WordLengthRule,
)
from tests.etl.scripts_of_texts import SCRIPTS, UNSPACED, text
from tests.etl.sources.source_files import configuration


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("iPhone15手机「很好」。", ["iPhone15", "手", "机「", "很", "好」。"]),
        ("「ที่กุ้」 x", ["「ที่", "กุ้」", "x"]),
        ("2024年5月", ["2024", "年", "5", "月"]),
        ("スティーブ・J", ["ス", "テ", "ィ", "ー", "ブ・", "J"]),
        ("A・B 語", ["A", "・", "B", "語"]),
        ("ភាសាខ្មែរ។", ["ភា", "សា", "ខ្", "មែ", "រ។"]),
        ("हिन्दी, 'is\u00a0spaced'", ["हिन्दी,", "'is", "spaced'"]),
        ("ქართული ენა", ["ქართული", "ენა"]),
    ],
)
def test_each_character_is_a_word_with_its_marks_and_the_signs_beside_it(
    written: str, found: list[str]
) -> None:
    assert runs(written) == found


@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_but_white_space_is_left_out(name: str) -> None:
    written = f"{text(name, 100)} 「x」 …a・b ( {text('english', 5)}"
    assert "".join(runs(written)) == "".join(written.split())


@pytest.mark.parametrize("name", SCRIPTS)
def test_running_text_passes_the_rules_for_the_web(name: str, tmp_path: Path) -> None:
    config = configuration(tmp_path, [{"format": "jsonl", "path": "a"}], clean={"rules": "web"})
    rules = RuleSet(config)
    for seed in range(5):
        written = "\n\n".join(text(name, 120, 10 * seed + part) for part in range(4))
        assert rules.apply([written])[1] is None


@pytest.mark.parametrize("name", UNSPACED)
def test_words_are_counted(name: str) -> None:
    rule = FilterWordCount(WordCountRule(minimum=50, maximum=2000))
    assert rule.drops(text(name, 3))
    assert not rule.drops(text(name, 100))
    assert rule.drops(text(name, 2000))


@pytest.mark.parametrize("name", UNSPACED)
def test_characters_say_nothing_of_the_length_of_words(name: str) -> None:
    rule = FilterWordLength(WordLengthRule())
    written = text(name, 60)
    assert not rule.drops(written)
    assert not rule.drops(f"{written} A 3 x {written}")
    spaced, short = text("english", 500), " ".join("abcdefgh" * 100)
    assert not rule.drops(f"{spaced} {written}")
    assert rule.drops(f"{short} {written}")


@pytest.mark.parametrize("name", UNSPACED)
def test_words_without_a_letter_among_characters(name: str) -> None:
    rule = FilterAlphabeticWords(AlphabeticWordsRule())
    written = text(name, 60)
    assert not rule.drops(f"{written} 1 2 3")
    numbers = " ".join(map(str, range(len(runs(written)) // 2)))
    assert rule.drops(f"{written} {numbers}")


@pytest.mark.parametrize(
    ("words", "kept", "dropped"),
    [
        (["的", "是", "在"], "这是一本关于历史的书", "价格表：苹果 香蕉 橘子"),
        (["は", "です", "の"], "今日はいい天気です", "価格表 林檎 蜜柑"),
        (["ที่", "และ", "ใน"], "บ้านที่อยู่ในเมือง", "ราคา ผลไม้ ทีวี"),
        (["ជា", "នៅ", "និង"], "គាត់ជាគ្រូនៅភ្នំពេញ", "តម្លៃ ផ្លែឈើ"),
        (["the", "的", "of"], "The手机 的 price", "theory oft"),
    ],
)
def test_stop_words_are_found_within_runs_of_characters(words: list[str], kept: str, dropped: str) -> None:
    rule = FilterStopWords(StopWordsRule(words=words))
    assert not rule.drops(kept)
    assert rule.drops(dropped)


@pytest.mark.parametrize("name", UNSPACED)
def test_symbols_are_compared_with_the_number_of_characters(name: str) -> None:
    rule = FilterSymbolRatio(SymbolRatioRule())
    written = text(name, 60)
    assert not rule.drops(f"# {written}…")
    assert rule.drops("#".join(written[:30]))


@pytest.mark.parametrize("name", SCRIPTS)
def test_repeated_phrases_go_and_running_text_stays(name: str) -> None:
    rule = FilterRepeatedNgrams(RepeatedNgramsRule())
    phrase, rng = text(name, 12), random.Random(0)
    assert rule.drops("".join(phrase + text(name, rng.randint(1, 6), seed) for seed in range(20)))
    for words in (50, 400, 2000):
        assert not rule.drops(text(name, words))
    mixed = "".join(text(other, 40) + " " for other in SCRIPTS)
    assert not rule.drops(mixed)
    assert rule.drops(mixed + "".join(phrase + text("english", 3, seed) for seed in range(40)))


def test_what_has_no_such_characters_is_counted_as_before() -> None:
    for name in ("hindi", "english"):
        written = text(name, 300)
        assert runs(written) == written.split()
