"""Every guarantee of the README names tests that show it, and `make test` runs these."""

import ast
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
HEADING = "## What holds"
THOROUGH = "pytest.mark.thorough"


def guarantees(readme: str) -> dict[str, list[str]]:
    """Return the tests that each bullet of the section names, by the bullet's bold text."""
    section = readme.split(f"\n{HEADING}\n")[1].split("\n## ")[0]
    return {
        bullet.split("**")[1]: re.findall(r"`(tests/[\w/]+\.py::\w+)`", bullet)
        for bullet in re.split(r"^- ", section, flags=re.M)[1:]
    }


def test_every_guarantee_names_tests_that_make_test_runs() -> None:
    named = guarantees((CHECKOUT / "README.md").read_text("utf-8"))
    assert len(named) >= 9
    assert [guarantee for guarantee, tests in named.items() if not tests] == []
    wanted = {test for tests in named.values() for test in tests}
    assert [test for test in sorted(wanted) if not runs_in_make_test(*test.split("::"))] == []


def runs_in_make_test(file: str, name: str) -> bool:
    """Return True if there is such a test, and neither it nor its file is marked as thorough.

    A mark of some of its parameters does not count.
    """
    tree = ast.parse((CHECKOUT / file).read_text("utf-8"))
    marks = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and "pytestmark" in ast.dump(node)
    ]
    tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    marks += [mark for test in tests for mark in test.decorator_list if isinstance(mark, ast.Attribute)]
    return bool(tests) and not any(THOROUGH in ast.unparse(mark) for mark in marks)


def test_a_missing_or_thorough_test_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.CHECKOUT", tmp_path)
    (tmp_path / "some.py").write_text(
        "@pytest.mark.parametrize('x', [1, pytest.param(2, marks=pytest.mark.thorough)])\ndef test_a(x): ...\n"
        "@pytest.mark.thorough\ndef test_b(): ...\n"
    )
    (tmp_path / "all.py").write_text("pytestmark = [pytest.mark.thorough]\ndef test_c(): ...\n")
    names = [("some.py", "test_a"), ("some.py", "test_b"), ("some.py", "test_c"), ("all.py", "test_c")]
    assert [runs_in_make_test(*one) for one in names] == [True, False, False, False]


def test_a_guarantee_without_a_test_would_be_found() -> None:
    readme = (
        f"# x\n\n{HEADING}\n- **A.** Said.\n  `tests/a.py::test_a`\n- **B.** Said.\n\n## Next\n- **C.** No.\n"
    )
    assert guarantees(readme) == {"A.": ["tests/a.py::test_a"], "B.": []}
