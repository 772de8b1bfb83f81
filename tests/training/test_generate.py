"""Command line of `training.generate`."""

import re
from pathlib import Path

import pytest

from common.errors import UsageError
from training import generate


@pytest.mark.parametrize(
    ("flag", "value", "told"),
    [
        ("--tokens", "0", "give a whole number of at least 1"),
        ("--top-k", "x", "give a whole number of at least 1"),
        ("--temperature", "nan", "give a number of at least 0"),
        ("--seed", "18446744073709551616", "give a whole number of at least 0 and below 2^64"),
        ("--seed", "-1", "give a whole number of at least 0 and below 2^64"),
        ("--prompt", "\udcff", "the prompt is not text in UTF-8"),
    ],
)
def test_values_that_cannot_be_used_are_refused(
    flag: str, value: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        generate.parser().parse_args(["--run", "runs/x", "--prompt", "x", flag, value])
    assert f"error: argument {flag}: {told}\n" in capsys.readouterr().err


def test_the_largest_seed_is_one() -> None:
    found = generate.parser().parse_args(["--run", "r", "--prompt", "é", "--seed", str(2**64 - 1)])
    assert (found.seed, found.prompt, found.tokens, found.temperature) == (2**64 - 1, "é", 100, 1.0)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    told = (
        f"{re.escape(str(tmp_path))} holds no run, .* give the folder of a run, such as runs/demo, with --run"
    )
    with pytest.raises(UsageError, match=told):
        generate.main(["--run", str(tmp_path), "--prompt", "x"])
