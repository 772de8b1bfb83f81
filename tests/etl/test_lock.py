"""One run at a time: a second one is told who holds the lock, and the lock ends with the process that holds it."""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

import pytest

from common.errors import DataError, UsageError
from common.storage import exists, write_bytes
from etl import quality, report
from etl.runs.lock import LOCK, locked
from schemas.config import Configuration, load
from schemas.tables import Layout
from tests.etl.sources.source_files import configuration, write_toml


def config_at(root: str) -> Configuration:
    config = configuration(Path("/"), [{"format": "jsonl", "path": "*.jsonl"}])
    return config.model_copy(update={"dataset": config.dataset.model_copy(update={"root": root})})


def hold(config: Configuration, ready: Connection) -> None:
    """Hold the lock until the process is killed."""
    with locked(config):
        ready.send(os.getpid())
        signal.pause()


def test_a_second_run_is_told_who_has_the_lock_until_that_one_is_gone(tmp_path: Path) -> None:
    config = config_at(str(tmp_path))
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(config, theirs))
    process.start()
    pid = ours.recv()
    with (
        pytest.raises(UsageError, match=f"another run is writing the data set example .*process {pid} of "),
        locked(config),
    ):
        pytest.fail("two runs hold the lock")
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with locked(config):
        pass
    with locked(config):
        pass


def test_an_error_gives_the_lock_back(tmp_path: Path) -> None:
    config = config_at(str(tmp_path))
    with pytest.raises(DataError), locked(config):
        raise DataError("broken")
    with locked(config):
        pass


def test_data_sets_of_one_root_have_a_lock_each_and_a_link_to_it_is_the_same_root(tmp_path: Path) -> None:
    one = config_at(str(tmp_path))
    other = one.model_copy(update={"dataset": one.dataset.model_copy(update={"name": "other"})})
    with locked(one), locked(other):
        pass
    (tmp_path / "link").symlink_to(tmp_path)
    with (
        locked(one),
        pytest.raises(UsageError, match="another run"),
        locked(config_at(str(tmp_path / "link"))),
    ):
        pytest.fail("two runs hold the lock")


def test_where_there_is_no_operating_system_between_a_file_is_the_lock() -> None:
    config = config_at("memory://locks")
    location = Layout.of(config).at(LOCK)
    with locked(config):
        with (
            pytest.raises(UsageError, match=f"or delete {location} if it is no longer there"),
            locked(config),
        ):
            pytest.fail("two runs hold the lock")
        assert exists(location)
    assert not exists(location)
    write_bytes(location, b"not ours")
    with pytest.raises(UsageError, match="it does not say which"), locked(config):
        pytest.fail("two runs hold the lock")


@pytest.mark.parametrize("command", [report, quality])
def test_what_writes_the_report_again_is_refused_beside_a_run(command: ModuleType, tmp_path: Path) -> None:
    file = write_toml(tmp_path / "conf.toml", str(tmp_path))
    flags = ["--config", str(file)]
    with (
        locked(load(file)),
        pytest.raises(UsageError, match="another run is writing the data set example"),
    ):
        command.main(flags)
    with pytest.raises(UsageError, match="there is no manifest"):
        command.main(flags)
