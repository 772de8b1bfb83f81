"""The search: trials that end early, fail, are killed and shared, and a winner that can be trained again."""

import fcntl
import getpass
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import psycopg
import pytest

from common.errors import CheckError, ConfigurationError, UsageError
from schemas.config import load
from tests.training.published import publish
from tests.training.runs import result
from tests.training.searches import calls, fake, flags, process, searched, states, trials_of
from training import train, tune
from training.engine.stopping import STATUS
from training.tuning import study

GRID = """
sampler = "grid"
pruner = "halving"
reduction = 2
[tune.space]
optimizer.learning_rate = { values = [0.02, 1e-6, 0.01, 1e-7] }
"""
RANDOM = """
sampler = "random"
pruner = "none"
trials = 4
seed = 3
[tune.space]
"optimizer.learning_rate" = { low = 1e-4, high = 1e-1, log = true }
"model.layers" = { low = 1, high = 4 }
"""


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_trials_that_are_behind_end_early_and_the_best_becomes_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch)
    published = searched(tmp_path, GRID)
    assert tune.main(flags(published)) == 0
    found = trials_of(published)
    rates = [one.params["optimizer.learning_rate"] for one in found]
    assert rates == [0.01, 1e-7, 1e-6, 0.02]
    # The stand-ins with the two small rates never go beyond their first epoch, so only the signal ended them.
    assert states(found) == ["COMPLETE", "PRUNED", "PRUNED", "PRUNED"]
    assert [one.user_attrs["epochs"] for one in found[:3]] == [3, 1, 1]
    assert len(found[3].intermediate_values) == 2
    best = rates.index(0.01)
    assert found[best].value == pytest.approx(3 / 4)  # 1 / (1 + 1 / 3)
    winner = load(tmp_path / "runs" / "s" / "winner.toml")
    assert winner.sha256() == found[best].user_attrs["configuration_sha256"]
    assert winner.optimizer.learning_rate == 0.01
    assert not winner.tune.space
    assert capsys.readouterr().out == (
        f"python -m training.evaluate --config {tmp_path}/runs/s/winner.toml --run s-trial-{best:04d}\n"
    )
    page = (tmp_path / "runs" / "s" / "report.html").read_text()
    assert page.count("<svg") == 3  # two of the history, a slice
    assert "ended early" in page


def test_a_search_of_adversarial_trainings_judges_them_under_attack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch)
    published = searched(tmp_path, "[tune.space]\noptimizer.learning_rate = { values = [0.01] }")
    assert tune.main(flags(published, "--set", "method.kind=adversarial", "--set", "tune.sampler=grid")) == 0
    (found,) = trials_of(published)
    # The best checkpoint is that of the first epoch, though the last is the best without an attack.
    assert (found.value, found.user_attrs["epoch"]) == (0.5, 1)


def test_a_trial_that_fails_is_recorded_with_its_message_and_the_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch)
    published = searched(
        tmp_path, GRID.replace("1e-6", "3.0").replace(", 1e-7", "").replace("halving", "none")
    )
    assert tune.main(flags(published)) == 0
    failed = [one for one in trials_of(published) if one.params["optimizer.learning_rate"] == 3.0]
    assert [one.user_attrs["error"] for one in failed] == ["the loss or the gradient is not finite at step 1"]
    assert sorted(states(trials_of(published))) == ["COMPLETE", "COMPLETE", "FAIL"]
    assert "the loss or the gradient is not finite at step 1" in (tmp_path / "runs/s/report.html").read_text()


def test_a_study_without_a_complete_trial_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch)
    published = searched(tmp_path, "trials = 1\n[tune.space]\noptimizer.learning_rate = { values = [2.0] }")
    with pytest.raises(
        CheckError, match=r"no trial of the study 's' .*the last that failed: the loss or the"
    ):
        tune.main(flags(published))
    assert not (tmp_path / "runs" / "s" / "winner.toml").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.thorough)])
def test_a_search_that_was_killed_goes_on_where_it_was_and_proposes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    published = searched(tmp_path, RANDOM)
    gate = tmp_path / "runs" / "gate"
    gate.parent.mkdir()
    gate.write_text("100")
    with process(published) as search:
        metrics = tmp_path / "runs" / "s-trial-0000" / "metrics.jsonl"
        until(lambda: metrics.exists() or search.poll() is not None)
        search.send_signal(number)
        said = search.communicate(timeout=60)[0]
    assert search.returncode == (STATUS if number is signal.SIGTERM else -number), said
    assert states(trials_of(published)) == ["RUNNING"]
    gate.unlink()
    fake(monkeypatch)
    assert tune.main(flags(published)) == 0
    found = trials_of(published)
    assert states(found) == ["COMPLETE"] * 4
    assert [(one["run"], one["resumed"], one["epochs_before"]) for one in calls(published)] == [
        ("s-trial-0000", False, 0),
        ("s-trial-0000", True, 1),
        *((f"s-trial-{n:04d}", False, 0) for n in (1, 2, 3)),
    ]
    assert tune.main(flags(published, study="whole")) == 0
    assert [one.params for one in found] == [one.params for one in trials_of(published, "whole")]
    assert tune.main(flags(published)) == 0  # nothing is left to train
    assert len(calls(published)) == 9


def test_a_trial_that_was_to_end_early_when_its_search_was_killed_is_not_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch)
    published = searched(tmp_path, GRID)
    told = optuna.Study.tell

    def killed(self: optuna.Study, trial: optuna.Trial, *arguments: object, **keys: object) -> object:
        if trial.number == 1:
            raise InterruptedError
        return told(self, trial, *arguments, **keys)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "tell", killed)
        with pytest.raises(InterruptedError):
            tune.main(flags(published))
    assert states(trials_of(published)) == ["COMPLETE", "RUNNING"]
    assert tune.main(flags(published)) == 0
    assert states(trials_of(published)) == ["COMPLETE", "PRUNED", "PRUNED", "PRUNED"]
    assert [one["run"] for one in calls(published)].count("s-trial-0001") == 1


def shared(tmp_path: Path, *more: str) -> list[str]:
    """Search with two processes, whose first trainings wait for each other; return the runs that were begun."""
    published = searched(
        tmp_path, GRID.replace("1e-6", "0.03").replace("1e-7", "0.04").replace("halving", "none")
    )
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "gate").write_text("2")
    with process(published, *more) as one, process(published, *more) as other:
        for search in (one, other):
            said = search.communicate(timeout=120)[0]
            assert search.returncode == 0, said
    assert {one["rate"] for one in calls(published)} == {0.01, 0.02, 0.03, 0.04}
    return sorted(one["run"] for one in calls(published))


def test_two_processes_share_a_study_and_no_trial_is_done_twice(tmp_path: Path) -> None:
    assert shared(tmp_path) == [f"s-trial-{n:04d}" for n in range(4)]


def test_a_process_makes_the_tables_of_a_new_storage_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch)
    published = searched(tmp_path, GRID)
    opened = study._storage

    def watched(url: str) -> optuna.storages.RDBStorage:
        descriptor = os.open(tmp_path / "runs" / "s", os.O_RDONLY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
        return opened(url)

    monkeypatch.setattr(study, "_storage", watched)
    assert tune.main(flags(published)) == 0


def answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[str]:
    """Start a server on a socket of the test's own and yield the URL of its database."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (str(programs[-1]) if programs else None)
    if initdb is None:
        pytest.skip("there is no PostgreSQL server here")
    user = "postgres" if getpass.getuser() == "root" else None  # it refuses root
    folder = Path(tempfile.mkdtemp(prefix="ringlake-postgresql-"))  # a socket's path must be short
    if user is not None:
        shutil.chown(folder, user)
    data, server = folder / "data", Path(initdb).with_name("postgres")
    try:
        subprocess.run(
            [initdb, "-D", str(data), "-A", "trust", "-U", "search", "-N"],
            check=True, capture_output=True, user=user, cwd="/",
        )  # fmt: skip
        options = ["-c", f"unix_socket_directories={folder}", "-c", "listen_addresses=", "-c", "fsync=off"]
        running = subprocess.Popen(
            [str(server), "-D", str(data), *options], user=user, cwd="/", stderr=subprocess.DEVNULL
        )
        try:
            url = f"postgresql://search@/postgres?host={folder}"
            until(lambda: answers(url))
            yield url
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(60)
    finally:
        shutil.rmtree(folder)


@pytest.mark.thorough
def test_two_processes_share_a_study_in_postgresql(tmp_path: Path, postgresql: str) -> None:
    runs = shared(tmp_path, "--set", f'tune.storage="{postgresql}"')
    assert runs == [f"s-trial-{n:04d}" for n in range(4)]
    assert not (tmp_path / "runs" / "s" / "study.db").exists()


def test_a_storage_that_cannot_be_opened_is_named_without_its_password(tmp_path: Path) -> None:
    published = searched(tmp_path, RANDOM)
    url = "postgresql://me:secret@127.0.0.1:1/none"
    with pytest.raises(UsageError, match="cannot be opened") as error:
        tune.main(flags(published, "--set", f'tune.storage="{url}"'))
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("", "has no [tune.space]"),
        ("optimizer.learning_rat = { values = [1.0] }", "unknown key 'optimizer.learning_rat'"),
        ("optimizer.learning_rate = { low = -1.0, high = 1.0 }", "'optimizer.learning_rate' cannot be -1.0"),
        ('model.pooling = { values = ["mean", "most"] }', "'model.pooling' cannot be \"most\""),
        ("columns.label = { values = ['a'] }", "'columns.label', which no search can change"),
        ("split.seed = { values = [1] }", "'split.seed', which no search can change"),
        ('"feature.0.length" = { values = [8] }', "'feature.0.length', which no search can change"),
        ("train.runs = { values = ['a'] }", "'train.runs', which no search can change"),
        ("train.where.label = { values = ['alpha'] }", "'train.where.label', which no search can change"),
    ],
)
def test_a_key_that_cannot_be_searched_is_refused_before_anything_is_written(
    tmp_path: Path, space: str, message: str
) -> None:
    published = searched(tmp_path, f"[tune.space]\n{space}")
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        tune.main(flags(published))
    assert not (tmp_path / "runs").exists()


def test_a_metric_that_no_validation_has_ends_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch)
    published = searched(tmp_path, f'metric = "recall"\n{RANDOM}')
    with pytest.raises(UsageError, match=r"'recall': say with tune.higher_is_better"):
        tune.main(flags(published))
    with pytest.raises(
        UsageError, match="'recall' is no result of a validation, which has accuracy, balanced_acc"
    ):
        tune.main(flags(published, "--set", "tune.higher_is_better=true"))
    assert states(trials_of(published)) == ["FAIL"]


def test_a_study_is_gone_on_with_only_as_it_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch)
    published = searched(tmp_path, RANDOM)
    assert tune.main(flags(published, "--set", "tune.trials=1")) == 0
    for changed, named in (
        (["--ranks", "2"], "ranks = 1, not 2"),
        (["--set", "train.batch=8"], "configuration_sha256 = "),
        (["--set", "tune.seed=4"], "tune = "),
    ):
        with pytest.raises(UsageError, match=f"the study 's' was begun with {named}"):
            tune.main(flags(published, *changed))
    assert tune.main(flags(published, "--set", "tune.trials=2")) == 0
    assert states(trials_of(published)) == ["COMPLETE"] * 2
    # A storage that another folder's study is in would mix up their runs.
    url = f"sqlite:///{tmp_path}/runs/s/study.db"
    with pytest.raises(UsageError, match="the storage has a study 's' already"):
        tune.main(
            flags(published, "--set", f'tune.storage="{url}"', "--set", f'train.runs="{tmp_path}/other"')
        )


def test_credentials_do_not_come_into_the_winners_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch)
    published = searched(tmp_path, RANDOM)
    secret = ["--set", "storage.fsspec.key=hidden-value", "--set", "tune.trials=1"]
    assert tune.main(flags(published, *secret)) == 0
    files = [path for path in (tmp_path / "runs" / "s").iterdir() if path.is_file()]
    assert {path.suffix for path in files} == {".toml", ".json", ".html", ".log", ".db"}
    assert [path for path in files if b"hidden-value" in path.read_bytes()] == []


def test_ranks_that_horovodrun_cannot_start_are_refused(tmp_path: Path) -> None:
    published = searched(tmp_path, RANDOM)
    with pytest.raises(UsageError, match="a search starts its ranks with horovodrun"):
        tune.main(flags(published, "--ranks", "2", "--set", "train.backend=ddp"))
    with pytest.raises(UsageError, match="--hosts says where several ranks run"):
        tune.main(flags(published, "--hosts", "other:2"))


def test_a_data_set_without_a_validation_split_cannot_be_searched(tmp_path: Path) -> None:
    published = publish(tmp_path, validation=())
    published.config.write_text(published.config.read_text() + f"[tune]\n{RANDOM}")
    with pytest.raises(UsageError, match="a search judges by the validation split"):
        tune.main(flags(published))


SMALL = """
trials = 2
[tune.space]
optimizer.learning_rate = { low = 1e-3, high = 1e-2 }
model.layers = { values = [1, 2] }
"""


def test_the_winners_configuration_trains_the_winning_weights_again(tmp_path: Path) -> None:
    published = searched(tmp_path, SMALL, epochs=1)
    assert tune.main(flags(published)) == 0
    ranked = sorted(trials_of(published), key=lambda one: (-(one.value or 0), one.number))
    winner = tmp_path / "runs" / "s" / "winner.toml"
    assert train.main(["--config", str(winner), "--run", "again"]) == 0
    names = ("weights_sha256", "best_checkpoint_sha256")
    again = {name: result(published, "again")[name] for name in names}
    best, other = ({name: one.user_attrs[name] for name in names} for one in ranked)
    assert again == best
    assert again != other


@pytest.mark.thorough
def test_each_trial_is_a_job_of_two_ranks(tmp_path: Path) -> None:
    published = searched(tmp_path, SMALL.replace("trials = 2", "trials = 1"), epochs=1)
    assert tune.main(flags(published, "--ranks", "2")) == 0
    [trial] = trials_of(published)
    assert (trial.state.name, trial.user_attrs["world_size"]) == ("COMPLETE", 2)
    assert "horovodrun -np 2 " in (tmp_path / "runs" / "s" / "winner.toml").read_text()
