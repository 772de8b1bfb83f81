"""The section `[tune]`: keys with and without quotation marks, choices and ranges, and what it does not touch."""

from pathlib import Path

import pytest

from common.errors import ConfigurationError
from schemas.config import load
from schemas.tuning import Dimension

PLAIN = """
[dataset]
name = "a"
root = "lake"
[[source]]
format = "jsonl"
path = "in/*.jsonl"
[columns]
label = "label"
[[feature]]
name = "tokens"
column = "text"
"""


def write(tmp_path: Path, section: str) -> Path:
    (tmp_path / "a.toml").write_text(f"{PLAIN}\n{section}")
    return tmp_path / "a.toml"


@pytest.mark.parametrize("key", ["optimizer.learning_rate", '"optimizer.learning_rate"'])
def test_a_key_may_have_quotation_marks_or_not(tmp_path: Path, key: str) -> None:
    section = f"[tune.space]\n{key} = {{ low = 1e-4, high = 1e-2, log = true }}"
    space = load(write(tmp_path, section), ["tune.space.optimizer.learning_rate.low=1e-3"]).tune.space
    assert space == {"optimizer.learning_rate": Dimension(low=1e-3, high=1e-2, log=True)}


def test_a_search_changes_neither_the_data_nor_the_hash_of_the_configuration(tmp_path: Path) -> None:
    plain = load(write(tmp_path, ""))
    searched = load(write(tmp_path, "[tune.space]\noptimizer.learning_rate = { values = [0.1] }"))
    assert searched.tune.space
    assert searched.sha256() == plain.sha256()
    assert searched.data_sections() == plain.data_sections()
    assert searched.data_sha256() == plain.data_sha256()


@pytest.mark.parametrize(
    ("given", "listed"),
    [
        ({"low": 1, "high": 4}, [1, 2, 3, 4]),
        ({"low": 32, "high": 128, "step": 32}, [32, 64, 96, 128]),
        ({"low": 0.0, "high": 0.3, "step": 0.1}, [0.0, 0.1, 0.2, 0.3]),
        ({"low": 0.0, "high": 0.35, "step": 0.1}, [0.0, 0.1, 0.2, 0.3]),
        ({"low": 1, "high": 8, "log": True}, None),
        ({"low": 0.0, "high": 1.0}, None),
        ({"values": [[1, 2], "a"]}, [[1, 2], "a"]),
    ],
)
def test_the_values_of_a_grid(given: dict[str, object], listed: list[object] | None) -> None:
    assert Dimension.model_validate(given).listed() == listed


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{ low = 3.0, high = 2.0 }", "a range needs low and high, and low below high"),
        ("{ low = 1.0 }", "a range needs low and high"),
        ("{ low = 0.0, high = 1.0, log = true }", "with log = true, low must be more than 0"),
        ("{ values = [1], low = 1 }", "give either values"),
        ("{ values = [1], step = 1 }", "log and step belong to a range"),
        ("{ values = [1, 1] }", "values names one twice"),
        ("{ lo = 1.0, high = 2.0 }", "allowed here: values, low, high, log, step"),
    ],
)
def test_a_wrong_dimension_is_named(tmp_path: Path, section: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'tune.space.optimizer.learning_rate.*{message}"):
        load(write(tmp_path, f'[tune.space]\n"optimizer.learning_rate" = {section}'))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ('storage = "mysql://here"', "storage must begin with"),
        (
            'sampler = "grid"\nspace.train.batch = { low = 1, high = 9, log = true }',
            "give 'train.batch' values",
        ),
    ],
)
def test_a_wrong_section_is_refused(tmp_path: Path, section: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load(write(tmp_path, f"[tune]\n{section}"))
