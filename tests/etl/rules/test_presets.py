"""Presets of cleaning rules on texts of each kind."""

from pathlib import Path

import pytest

from etl.rules.applying import RuleSet
from tests.etl.sources.source_files import configuration

PYTHON = "def f(x):\n    if x:\n        return 1  # see ada@example.org\n\n\n\treturn 2"
JSX = "const App = () => (\n  <Table rows={rows}>\n    <Button onClick={go}>Save</Button>\n  </Table>\n);"
DIFF = "--- a/x.html\n+++ b/x.html\n@@ -1 +1 @@\n-<title>old &amp; bold</title>\n+<title>new</title>"
SIGNS = "{[(<>)]};" * 9
PAGE = """<p>A harbour town keeps its old market &amp; its bridges.</p>



<p>Every morning the boats come back  from the islands.</p>
We use cookies. Privacy policy
The keeper of the lighthouse writes down the weather of each hour, and sends it to the people who plan the day of the
fishermen. In winter they stay ashore and mend their nets, while children listen to stories about the storms that their
grandparents have seen."""


def cleaned(folder: Path, rules: object, text: str) -> tuple[str, str | None, dict[str, int]]:
    """Return the text, the filter that it met, and the number of effects by rule."""
    config = configuration(folder, [{"format": "jsonl", "path": "*"}], clean={"rules": rules})
    (after,), filtered_by, effects = RuleSet(config).apply([text])
    return after, filtered_by, {str(e["rule"]): int(str(e["count"])) for e in effects}


@pytest.mark.parametrize("text", [JSX, DIFF, SIGNS, "a\tb  c\n\n\n\n  d  "])
def test_code_stays_as_it_is(tmp_path: Path, text: str) -> None:
    assert cleaned(tmp_path, "code", text) == (text, None, {})


def test_personal_data_and_invisible_signs_in_code_do_not_stay(tmp_path: Path) -> None:
    after, _, effects = cleaned(tmp_path, "code", PYTHON.replace("if x", "if\u202e x").replace("\n", "\r\n"))
    assert after == PYTHON.replace("ada@example.org", "<email>")
    assert effects == {"control_characters": 6, "emails": 1}


def test_the_default_says_what_it_does_to_indentation(tmp_path: Path) -> None:
    after, _, effects = cleaned(tmp_path, "default", PYTHON)
    assert after == "def f(x):\nif x:\nreturn 1 # see <email>\n\nreturn 2"
    assert effects["white_space.indentation"] == 3
    assert "white_space.indentation" not in cleaned(tmp_path, "default", PAGE)[2]
    assert cleaned(tmp_path, "default", JSX)[0] == "const App = () => (\n\nSave\n\n);"
    assert cleaned(tmp_path, "default", SIGNS)[1] == "character_ratio"


def test_web_pages_lose_mark_up_and_boilerplate_and_short_texts_are_left_out(tmp_path: Path) -> None:
    after, filtered_by, _ = cleaned(tmp_path, "web", PAGE)
    assert filtered_by is None
    assert after.startswith(
        "A harbour town keeps its old market & its bridges.\n\nEvery morning the boats come back from"
    )
    assert "cookies" not in after
    assert cleaned(tmp_path, "default", PAGE)[0].count("cookies") == 1
    assert cleaned(tmp_path, "web", "Home\nAbout us\nContact")[1] == "word_count"
    assert cleaned(tmp_path, "default", "Home\nAbout us\nContact")[1] is None


def test_none_leaves_everything(tmp_path: Path) -> None:
    for text in (PYTHON, JSX, PAGE, "\x00 \u00ad", "ada@example.org"):
        assert cleaned(tmp_path, "none", text) == (text, None, {})
