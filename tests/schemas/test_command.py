"""Exit statuses and messages of commands."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from common.command import run, without_credentials
from common.errors import DataError, QualityGateError, UsageError


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (DataError("a sentence"), 1, "error: a sentence\n"),
        (UsageError("a sentence"), 2, "error: a sentence\n"),
        (QualityGateError("a sentence"), 3, "error: a sentence\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (OSError(5, "Input/output error"), 1, "error: OSError: [Errno 5] Input/output error (unexpected; "),
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
    assert len(logs) == ("unexpected" in said)


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
