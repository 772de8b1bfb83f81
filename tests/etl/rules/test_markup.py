"""Remains of HTML, and look-alikes."""

import pytest

from etl.rules.markup import RemoveMarkup
from schemas.cleaning import MarkupRule

LOOK_ALIKES = [
    "Copyright (c) <year> <copyright holders>",
    "<name of author>, <title>, <address>",
    "Jane <jane@example.org>",
    "see <https://example.org/a> or <http://b.example>",
    "vector<b> x; map<string, i> y; std::array<p> z;",
    "#include <map>\n#include <time.h>",
    "a < b and b > a, 3 <p 4, <3",
    "<one line to give the program's name>",
    "<!-- not closed",
    "<a href='x' not closed",
    "AT&T; R&D; &nosuchname; & &amp",
]


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_what_is_no_markup_stays(text: str) -> None:
    assert RemoveMarkup(MarkupRule()).apply(text) == (text, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one<br>two<BR/>three<br />four", ("one\ntwo\nthree\nfour", 3)),
        ("<p>one</p><p class='x'>two</p>", ("\none\n\ntwo\n", 4)),
        ("a <b>bold</b> word", ("a bold word", 2)),
        ('<a href="x">link</a> <a>', ("link ", 3)),
        ("<table><tr><td>1</td><td>2</td></tr></table>", ("\n\n 1  2 \n\n", 8)),
        ("<title>A</title> but <address>", ("\nA\n but <address>", 2)),
        ("<!-- a comment --> text <!--x-->", (" a comment  text x", 2)),
        ("<!DOCTYPE html><html>x", ("\nx", 2)),
        ('<?xml version="1.0"?>x', ("x", 1)),
        ("a<script>if (a < b) {}</SCRIPT>b<style type='x'>p {}</style>c", ("abc", 2)),
        ("&lt;b&gt; &quot;x&quot; &#65;&#x42; &eacute;", ('<b> "x" AB é', 7)),
        ("&amp;lt;", ("&lt;", 1)),
        ("a&nbsp;b&#1;c&#13;d", ("a\u00a0bc d", 3)),
    ],
)
def test_markup_goes(text: str, expected: tuple[str, int]) -> None:
    assert RemoveMarkup(MarkupRule()).apply(text) == expected


def test_character_references_can_stay() -> None:
    assert RemoveMarkup(MarkupRule(entities=False)).apply("<br>&lt;") == ("\n&lt;", 1)


@pytest.mark.parametrize(
    "piece", ["<", "<a ", "<!--", "<script>", "&", "<p", "</", "<a href=", "<!doctype ", "&#x"]
)
@pytest.mark.timeout(20)
def test_hostile_texts_take_no_longer_than_their_length_asks_for(piece: str) -> None:
    text = piece * (400_000 // len(piece))
    assert RemoveMarkup(MarkupRule()).apply(text) == (text, 0)
