"""Signs are never a false "surely nothing": a rule that is skipped for a text would have done nothing."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.rules.applying import RuleSet
from etl.rules.registry import Edit, Filter, build_rules
from etl.rules.signs import Signs
from schemas.cleaning import Clean
from tests.etl.sources.source_files import configuration

CLEANS = [
    Clean(),
    Clean.model_validate(
        {
            "unicode": {"form": "NFKC"},
            "control_characters": {"keep": "\t\u200b"},
            "markup": {"entities": False},
            "white_space": {"blank_lines": 0},
            "phones": {"regions": ["US", "DE", "EG"]},
            "national_ids": {"countries": ["BR", "ES", "US", "AR", "PY"]},
            "length": {"minimum": 3, "maximum": 12},
            "character_ratio": {"minimum_letters": 0.6},
        }
    ),
    Clean.model_validate(
        {"white_space": {"blank_lines": 3}, "regex": [{"name": "x", "pattern": "a", "drop": True}]}
    ),
]

# Pieces that rules look for, complete or not, and characters at the borders of what the masks inspect.
PIECES = st.sampled_from(
    [
        *"aZ09 \n\t\r\x00\x0b\x1c\x7f\x85\xa0\xad.:;@<>&#-+_",
        *"é\u02ff\u0300\u0340\u037e\u0660\u06f0\u1680\u180e\u2000\u200b\u200c\u2028\u202f\u2060\u3000\ufeff\uff10ﬁ½한字😀",
        *(
            "  ",
            " \n",
            "\n ",
            "\n\n",
            "\n\n\n",
            "\r\n",
            "<b>",
            "</b>",
            "<!--",
            "&amp;",
            "&#65;",
            "a@b.org",
            "me@x",
        ),
        *(
            "650-253-0000",
            "+44 20 7031 3000",
            "(030) 901820",
            "\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667",
        ),
        *(
            "10.20.30.40",
            "1.2.3.4",
            "::1",
            "2001:db8::17",
            "fe80:1:2:3:4:5:6:7",
            "version ",
            "word ",
            "a\u0301",
        ),
    ]
)
TEXTS = st.lists(
    st.one_of(st.lists(PIECES, max_size=12).map("".join), st.text(max_size=12)), min_size=1, max_size=8
)


def encodable(texts: list[str]) -> bool:
    return all(not 0xD800 <= ord(character) < 0xE000 for text in texts for character in text)


@pytest.mark.parametrize("clean", CLEANS)
@settings(max_examples=100, deadline=None)
@given(texts=TEXTS.filter(encodable), begin=st.integers(0, 3))
def test_rules_do_nothing_where_they_surely_do_nothing(clean: Clean, texts: list[str], begin: int) -> None:
    signs = Signs(pa.array(texts, pa.string()).slice(begin))
    for name, rule in build_rules(clean):
        flags = rule.may_concern(signs)
        if flags is None:
            continue
        assert len(flags) == len(signs) == max(0, len(texts) - begin)
        for text, flag in zip(texts[begin:], flags.tolist(), strict=True):
            if flag:
                continue
            if isinstance(rule, Edit):
                assert rule.apply(text) == (text, 0), name
            else:
                assert isinstance(rule, Filter)
                assert not rule.drops(text), name


@pytest.mark.parametrize(
    ("rule", "untouched", "touched"),
    [
        ("unicode", ["plain", "é ü \u02ff"], ["e\u0301", "한"]),
        ("control_characters", ["a\tb\nc", "é"], ["a\x00", "soft\u00adhyphen"]),
        ("markup", ["a > b"], ["a < b", "&amp;"]),
        (
            "white_space",
            ["one two\nthree\n\nfour", "é"],
            ["a  b", "a \nb", "a\n b", "a\n\n\nb", " a", "a\n", "a\tb"],
        ),
        ("emails", ["none"], ["a@b"]),
        ("ibans", ["DE893"], ["DE893704"]),
        ("cards", ["411111111111"], ["4111111111111"]),
        ("national_ids", ["390.533.447-05"], []),
        ("phones", ["in 1999 and 20", "é 123456"], ["1234567", "١٢٣"]),
        ("ip_addresses", ["1.2.3", "a:b"], ["1.2.3.4", "::"]),
        ("length", ["a"], [""]),
        ("character_ratio", ["letters: all of them"], ["-+-", "éé"]),
    ],
)
def test_most_texts_are_not_looked_at(rule: str, untouched: list[str], touched: list[str]) -> None:
    """Letters outside ASCII are not counted: a false alarm, which costs only a look."""
    rules: dict[str, Any] = dict(build_rules(Clean()))
    assert rules[rule].may_concern(Signs(pa.array([*untouched, *touched]))).tolist() == [
        *([False] * len(untouched)),
        *([True] * len(touched)),
    ]


@settings(max_examples=100, deadline=None)
@given(texts=TEXTS.filter(encodable))
def test_skipped_rules_change_no_result(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    config = configuration(
        tmp_path_factory.getbasetemp(), [{"format": "jsonl", "path": "*.jsonl"}], {"label": "label"}
    )
    rules = RuleSet(config)
    may = rules.may_concern([pa.array(texts, pa.string())], len(texts))
    for text, here in zip(texts, may.T.tolist(), strict=True):
        assert rules.apply([text], here) == rules.apply([text])
