"""Studies whose files were damaged or lost between two searches, and what of a range a search cannot try."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from common.errors import ConfigurationError, DataError, UsageError
from tests.training.published import Published
from tests.training.searches import fake, flags, searched, states, trials_of
from training import tune

SECTION = """sampler = "random"
pruner = "none"
trials = 2
[tune.space]
"optimizer.learning_rate" = { low = 1e-3, high = 1e-1, log = true }
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """Search to the end once; the folder of the study is `runs/s`."""
    fake(monkeypatch)
    published = searched(tmp_path, SECTION)
    assert tune.main(flags(published)) == 0
    return published


@pytest.mark.parametrize("text", ["[]", "{}", '{"manifest": 5, "id": "x"}'])
def test_facts_that_are_none_are_refused(study: Published, text: str) -> None:
    (study.root / "runs" / "s" / "study.json").write_text(text)
    with pytest.raises(UsageError, match=r"study\.json cannot be read.*another study"):
        tune.main(flags(study))


def test_a_lost_storage_is_not_begun_anew_over_the_trials_that_are_there(study: Published) -> None:
    database = study.root / "runs" / "s" / "study.db"
    database.rename(database.with_name("copy"))
    with pytest.raises(UsageError, match=r"has no study 's'.*put study\.db.*back"):
        tune.main(flags(study))
    database.with_name("copy").replace(database)
    assert tune.main(flags(study, "--set", "tune.trials=3")) == 0
    assert states(trials_of(study)) == ["COMPLETE"] * 3


def test_a_storage_that_is_damaged_within_is_named(study: Published) -> None:
    database = study.root / "runs" / "s" / "study.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript("DROP TABLE trials; CREATE TABLE trials (trial_id INTEGER)")
    with pytest.raises(DataError, match=r"storage failed, study\.db of the study 's': .*no such column"):
        tune.main(flags(study))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ('storage = "sqlite:///"', "names no file"),
        ('storage = "sqlite:///:memory:"', "names no file"),
        ("[tune.space]\ntrain.batch = { low = 8, high = 16, step = 1.5 }", "'train.batch' cannot be 9.5"),
        ("[tune.space]\ntrain.batch = { low = 8, high = 9, step = 5 }", "step is longer than the range"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    tmp_path: Path, section: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        tune.main(flags(searched(tmp_path, section)))
    assert not (tmp_path / "runs").exists()


def test_the_number_of_an_epoch_is_no_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch)
    published = searched(tmp_path, f'metric = "epoch"\nhigher_is_better = true\n{SECTION}')
    with pytest.raises(UsageError, match="'epoch' is no result of a validation"):
        tune.main(flags(published))
