"""JSON lines: an unfinished last line is ignored, damage is named, a full disk spoils nothing."""

import errno
import json
import os
import resource
import stat
from pathlib import Path

import pytest

from common import json_lines
from common.errors import DataError


@pytest.fixture(params=["local", "memory"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    name = f"{request.node.originalname}.jsonl"
    return str(tmp_path / "new" / name) if request.param == "local" else f"memory://json_lines/{name}"


def test_what_is_appended_is_read_again(location: str) -> None:
    assert list(json_lines.read(location)) == json_lines.lines(location) == []
    for number in range(3):
        json_lines.append(location, json.dumps({"number": number}).encode())
    assert list(json_lines.read(location)) == [{"number": number} for number in range(3)]
    assert list(json_lines.read(location, len)) == [13] * 3


@pytest.mark.parametrize("length", [1, json_lines.BLOCK, 3 * json_lines.BLOCK + 1])
def test_an_end_that_was_cut_off_is_ignored_and_removed_by_the_next_line(length: int, tmp_path: Path) -> None:
    for begins in (b"", b"1\n2\n"):
        (tmp_path / "a").write_bytes(begins + b'"' * length)
        assert json_lines.lines(str(tmp_path / "a")) == begins.split()
        json_lines.append(str(tmp_path / "a"), b"3")
        assert (tmp_path / "a").read_bytes() == begins + b"3\n"


def test_damage_is_named_by_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b'{"a":1}\n\xff\n{"a":3}\n')
    with pytest.raises(DataError, match=rf"line 2 of {path} cannot be read: 'utf-8'"):
        list(json_lines.read(str(path)))
    assert json_lines.readable(str(path)) == [{"a": 1}]
    for damage in (b"no json\n", b"7\n", b'{"b":1}\n'):
        path.write_bytes(b'{"a":1}\n' + damage)
        json_lines.keep(str(path), lambda entry: bool(entry["a"]))
        assert f"warning: line 2 of {path} is damaged and is dropped" in capsys.readouterr().err
        assert path.read_bytes() == b'{"a":1}\n'


def test_lines_that_are_kept_stay_as_they_are(tmp_path: Path) -> None:
    json_lines.keep(str(tmp_path / "a"), bool)
    assert not (tmp_path / "a").exists()
    (tmp_path / "a").write_bytes(b' {"a": 1}\n{"a":2}\n{"a":  1 }\n{"a":1')
    json_lines.keep(str(tmp_path / "a"), lambda entry: bool(entry["a"] == 1))
    assert (tmp_path / "a").read_bytes() == b' {"a": 1}\n{"a":  1 }\n'


def test_a_line_that_the_disk_takes_in_part_is_taken_back(tmp_path: Path) -> None:
    json_lines.append(str(tmp_path / "a"), b"1")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5, before[1]))  # a write that crosses it is cut short
    try:
        with pytest.raises(OSError, match="No space"):
            json_lines.append(str(tmp_path / "a"), b"23456789")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "a").read_bytes() == b"1\n"


def test_a_line_that_cannot_be_made_durable_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    json_lines.append(str(tmp_path / "a"), b"1")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        json_lines.append(str(tmp_path / "a"), b"2")
    assert (tmp_path / "a").read_bytes() == b"1\n"
    json_lines.append(str(tmp_path / "a"), b"2", durable=False)
    assert (tmp_path / "a").read_bytes() == b"1\n2\n"


def test_a_new_file_gets_the_mode_less_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        json_lines.append(str(tmp_path / "a"), b"1")
        json_lines.append(str(tmp_path / "b"), b"1", mode=0o644)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"] == [0o664, 0o644]
