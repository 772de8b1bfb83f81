"""Every guarantee of the README names tests that show it, and `make test` runs these."""

import re
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
HEADING = "## What holds"


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
    options = ["--collect-only", "-q", "-m", "not thorough", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, *sorted(wanted)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert wanted - set(re.findall(r"^(tests/[^\[\s@]+)", done.stdout, flags=re.M)) == set()


def test_a_guarantee_without_a_test_would_be_found() -> None:
    readme = (
        f"# x\n\n{HEADING}\n- **A.** Said.\n  `tests/a.py::test_a`\n- **B.** Said.\n\n## Next\n- **C.** No.\n"
    )
    assert guarantees(readme) == {"A.": ["tests/a.py::test_a"], "B.": []}
