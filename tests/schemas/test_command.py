"""Exit statuses and messages of commands."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from common.command import run, without_credentials, without_passwords
from common.errors import DataError, QualityGateError, UsageError


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (DataError("a sentence"), 1, "error: a sentence\n"),
        (UsageError("a sentence"), 2, "error: a sentence\n"),
        (QualityGateError("a sentence"), 3, "error: a sentence\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (OSError(5, "Input/output error"), 1, "error: OSError: [Errno 5] Input/output error (unexpected; "),
        (
            OSError(28, "No space left on device", "x"),
            1,
            "error: [Errno 28] No space left on device: 'x': free some ",
        ),
        (
            OSError(30, "Read-only file system", "x"),
            1,
            "error: [Errno 30] Read-only file system: 'x': look at the ",
        ),
        (MemoryError(), 1, "error: MemoryError: the memory is used up"),
        (
            ImportError("no module x"),
            1,
            "error: no module x: a package is missing or damaged: run `make setup`",
        ),
        (KeyError("joe@example.org"), 1, "error: KeyError (unexpected; "),
    ],
)
def test_each_error_has_its_status_and_an_unforeseen_one_quotes_no_record(
    error: BaseException,
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    def main(argv: Sequence[str] | None) -> int:
        raise error

    assert run(main) == status
    shown = capsys.readouterr().err
    assert shown.startswith(said)
    assert "joe" not in shown
    logs = list((tmp_path / "logs").glob("*.log")) if (tmp_path / "logs").exists() else []
    assert len(logs) == isinstance(error, OSError | KeyError | MemoryError | ImportError)
    assert ("please report" in shown) == ("unexpected" in said)


def test_where_the_working_folder_takes_no_file_logs_go_to_a_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").write_text("a file where the folder should be")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))

    def main(argv: Sequence[str] | None) -> int:
        raise KeyError("x")

    assert run(main) == 1
    (log,) = (tmp_path / "tmp").glob("ringlake-logs-*/error-*.log")
    assert log.parent.stat().st_mode & 0o077 == 0
    assert f"the traceback is in {log}: " in capsys.readouterr().err
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert run(main) == 1
    assert "the traceback is in no file, since none can be written: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "override",
    [
        "storage.fsspec.secret=SECRET",
        " storage.hadoop.key = 'SECRET'",
        'storage={fsspec={key="SECRET"}}',
        '"storage".delta.key=SECRET\nSECRET',
    ],
)
def test_credentials_of_a_command_line_are_not_written_down(override: str) -> None:
    others = ["run", "--set", "train.epochs=1", "--set=dataset.root=storage=1", "--config", "storage.toml"]
    for given in (["--set", override], ["--se", override], [f"--set={override}"], [f"--s={override}"]):
        shown = without_credentials([*others, *given])
        assert shown[: len(others)] == others
        assert "SECRET" not in " ".join(shown)
        assert shown[-1].startswith(given[-1].partition("storage")[0] + "storage")
        assert shown[-1].endswith("=...")


def test_a_password_in_a_location_is_not_shown() -> None:
    given = ["--set", "dataset.root=s3://key:s3cr+t=@bucket/wh", "--manifest=hdfs://name:8020/wh/m.json"]
    shown = without_credentials(given)
    assert shown == ["--set", "dataset.root=s3://key:...@bucket/wh", "--manifest=hdfs://name:8020/wh/m.json"]
    assert without_passwords('{"a": "sftp://me:secret@host/a", "b": "me@host:22"}') == (
        '{"a": "sftp://me:...@host/a", "b": "me@host:22"}'
    )
