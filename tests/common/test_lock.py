"""Locks of the operating system, and the files that take their place where a file system knows none."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common import lock
from common.errors import DataError, UsageError
from common.invocation import invocation


def test_a_second_holder_is_told_of_the_first_and_nothing_is_left_behind(tmp_path: Path) -> None:
    place = tmp_path / "folder" / "lock"
    with lock.held(str(place), "it is taken", job="a"):
        found = lock.holder(place)
        assert found is not None
        assert (found["pid"], found["job"]) == (os.getpid(), "a")
        with pytest.raises(UsageError, match=f"it is taken .process {os.getpid()} of .*since 20.*; wait for"):
            lock.held(str(place), "it is taken").__enter__()
    assert lock.holder(place) is None
    assert list(place.parent.iterdir()) == []


def test_a_lock_that_is_deleted_under_its_holder_is_no_longer_waited_for(tmp_path: Path) -> None:
    place = tmp_path / "lock"
    with lock.held(str(place), "taken"):
        place.unlink()
        with lock.held(str(place), "taken"):
            assert lock.holder(place) is not None


def test_a_lock_of_another_host_that_is_free_is_taken_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "lock"
    place.write_text(
        json.dumps({"host": "elsewhere", "pid": 1, "user": "u", "since": "then", "command": "c"})
    )
    with lock.held(str(place), "taken"):
        pass
    assert "was left behind by process 1 of u on elsewhere, since then: c" in capsys.readouterr().err


def no_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def test_without_locks_of_the_operating_system_a_file_is_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fcntl, "flock", no_locks)
    place = tmp_path / "lock"
    other = place.with_name("lock.exclusive")
    with lock.held(str(place), "taken"):
        assert (lock.holder(place) or {}).get("pid") == os.getpid()
        with pytest.raises(UsageError, match=f"taken .process {os.getpid()} of .*delete {other} if it is no"):
            lock.held(str(place), "taken").__enter__()
    assert not other.exists()
    assert lock.holder(place) is None
    # Somebody took the advice though its holder lives.
    with lock.held(str(place), "taken"):
        other.unlink()
    assert "was deleted meanwhile" in capsys.readouterr().err
    # A process of this host that is gone left it behind; of another host's nobody here can tell.
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    other.write_text(json.dumps({**invocation(), "pid": ended.pid}))
    with lock.held(str(place), "taken"):
        pass
    other.write_text(json.dumps({**invocation(), "host": "elsewhere", "pid": ended.pid}))
    with pytest.raises(UsageError, match="on elsewhere"):
        lock.held(str(place), "taken").__enter__()


def test_a_folder_without_room_for_a_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file/lock cannot be created ..*exists"):
        lock.held(str(tmp_path / "file" / "lock"), "taken").__enter__()


def test_a_full_disk_is_no_wrong_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(DataError, match=r"lock cannot be created .No space left on device"):
        lock.held(str(tmp_path / "lock"), "taken").__enter__()
