"""The audit trail: the contents of an entry, and that any change to the chain is found."""

import json
import os
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from common.errors import DataError, UsageError
from common.invocation import invocation
from etl import verify
from etl.runs.audit import FILE, FIRST, append, audited, findings, hash_of, last_commit
from etl.runs.completion import Stage
from etl.runs.run import Run
from etl.stages.running import timed
from schemas.config import Configuration
from schemas.manifest import Manifest, Provenance
from schemas.tables import Layout
from tests.etl.sources.source_files import configuration, write_toml


@pytest.fixture
def config(tmp_path: Path) -> Configuration:
    config = configuration(tmp_path, [{"format": "jsonl", "path": "*.jsonl"}])
    Path(Layout.of(config).root).mkdir(parents=True)
    return config


def lines(config: Configuration) -> list[bytes]:
    return Path(Layout.of(config).at(FILE)).read_bytes().splitlines(keepends=True)


def rewrite(config: Configuration, changed: list[bytes]) -> list[str]:
    """Write these lines to the file; return the findings."""
    Path(Layout.of(config).at(FILE)).write_bytes(b"".join(changed))
    return findings(Layout.of(config), {}, config.storage)


def filled(config: Configuration, count: int = 4) -> list[bytes]:
    for number in range(count):
        append(Layout.of(config), config, {"action": "test", "event": "end", "counts": {"rows": number}})
    return lines(config)


def test_an_action_leaves_its_beginning_and_its_end(config: Configuration) -> None:
    with audited("clean", config) as outcome:
        outcome["counts"] = {"records": 3}
    begin, end = map(json.loads, lines(config))
    assert (begin["number"], begin["previous"], begin["action"], begin["event"]) == (
        0,
        FIRST,
        "clean",
        "begin",
    )
    assert (end["number"], end["previous"], end["event"]) == (1, begin["hash"], "end")
    assert end["counts"] == {"records": 3}
    assert end["configuration_sha256"] == config.sha256()
    assert end["versions"] == {}
    assert {"time", "host", "user", "command"} <= set(end)
    assert hash_of(end) == end["hash"]


@pytest.mark.parametrize("error", [KeyError("uid not found: 1000"), OSError("No username set")])
def test_a_user_without_a_name_is_told_by_number(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def getuser() -> str:
        raise error

    monkeypatch.setattr("getpass.getuser", getuser)
    assert invocation()["user"] == f"uid {os.getuid()}"


def test_what_is_run_again_is_entered_with_the_configuration_that_was_given(
    spark: SparkSession, config: Configuration
) -> None:
    seen: list[Configuration] = []

    def stage(run: Run) -> dict[str, int]:
        seen.append(run.config)
        return {}

    for again in (False, True):
        timed(Stage("clean", stage, lambda *_: None), Run(spark, config), again)
    assert [given.increments.go_on for given in seen] == [True, False]
    # As in the commits of tables and in manifests.
    assert [given.sha256() for given in seen] == [config.sha256()] * 2
    assert [json.loads(line)["configuration_sha256"] for line in lines(config)] == [config.sha256()] * 4


def test_a_failure_is_entered_without_its_message(config: Configuration) -> None:
    with pytest.raises(DataError), audited("clean", config):
        raise DataError("of joe@example.org")
    begin, failed = map(json.loads, lines(config))
    assert (begin["event"], failed["event"], failed["error"]) == ("begin", "failed", "DataError")
    assert b"joe" not in b"".join(lines(config))


def test_an_untouched_chain_has_no_findings(config: Configuration) -> None:
    written = filled(config)
    assert rewrite(config, written) == []


def test_a_trail_of_earlier_versions_is_whole_and_goes_on(config: Configuration) -> None:
    written = (Path(__file__).parent / "audit_trail.jsonl").read_bytes().splitlines(keepends=True)
    assert rewrite(config, written) == []
    assert last_commit(Layout.of(config), config.storage)["number"] == 2
    assert len(filled(config, 1)) == 4
    assert rewrite(config, lines(config)) == []
    (found,) = rewrite(config, [written[0], written[1].replace(b'"records":3', b'"records":4'), written[2]])
    assert "line 2 of" in found


@pytest.mark.parametrize(
    "key", ["counts", "time", "user", "command", "number", "previous", "hash", "versions"]
)
def test_an_altered_entry_is_named(config: Configuration, key: str) -> None:
    written = filled(config)
    entry = json.loads(written[1])
    entry[key] = 7 if key == "number" else "f" * 64
    written[1] = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    (found,) = rewrite(config, written)
    assert "line 2 of" in found


def test_an_entry_that_was_altered_with_its_hash_breaks_the_chain_behind_it(config: Configuration) -> None:
    written = filled(config)
    entry = json.loads(written[1]) | {"user": "nobody"}
    entry["hash"] = hash_of(entry)
    written[1] = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    (found,) = rewrite(config, written)
    assert "line 3 of" in found
    assert "altered, removed or inserted" in found


@pytest.mark.parametrize(
    ("order", "line"), [((0, 2, 3), 2), ((1, 2, 3), 1), ((0, 2, 1, 3), 2), ((0, 1, 1, 2, 3), 3)]
)
def test_entries_that_are_missing_moved_or_repeated_show(
    config: Configuration, order: tuple[int, ...], line: int
) -> None:
    written = filled(config)
    (found,) = rewrite(config, [written[place] for place in order])
    assert f"line {line} of" in found


def test_another_writing_of_the_same_entry_and_foreign_lines_show(config: Configuration) -> None:
    written = filled(config)
    spaced = [*written[:2], json.dumps(json.loads(written[2])).encode() + b"\n", written[3]]
    assert "line 3 of" in rewrite(config, spaced)[0]
    assert "line 5 of" in rewrite(config, [*written, b'{"hash": "x"}\n'])[0]
    with pytest.raises(DataError, match="is no entry of an audit trail"):
        filled(config)


def test_an_end_that_was_cut_off_shows_by_the_publication_that_is_missing(config: Configuration) -> None:
    def published(root: str, year: int) -> Manifest:
        made = Provenance.model_construct(created=f"{year}-01-01T00:00:00+00:00")  # type: ignore[call-arg]
        return Manifest.model_construct(manifest_root=root, provenance=made)  # type: ignore[call-arg]

    layout = Layout.of(config)
    for root in ("a" * 64, "b" * 64):
        append(layout, config, {"action": "publish", "event": "commit", "manifest_root": root})
    # Versions published before there was a trail need not be in it.
    manifests = {"one.json": published("a" * 64, 2999), "two.json": published("b" * 64, 2999)}
    manifests["old.json"] = published("c" * 64, 1999)
    assert findings(layout, manifests, config.storage) == []
    assert last_commit(layout, config.storage)["manifest_root"] == "b" * 64
    Path(layout.at(FILE)).write_bytes(lines(config)[0])
    (found,) = findings(layout, manifests, config.storage)
    assert "no entry for the publication of two.json" in found
    Path(layout.at(FILE)).unlink()
    assert "is missing" in findings(layout, manifests, config.storage)[0]


def test_verify_checks_the_trail_also_before_anything_was_published(
    config: Configuration, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--config", str(write_toml(tmp_path / "conf.toml", config.dataset.root))]
    with pytest.raises(
        UsageError, match=r"there is nothing to verify in .*: run the pipeline first, or say where"
    ):
        verify.main(command)
    written = filled(config)
    assert verify.main(command) == 0
    assert "nothing has been published yet; its audit trail is whole" in capsys.readouterr().out
    rewrite(config, [*written[:1], *written[2:]])
    assert verify.main(command) == 1
    assert "the audit trail is damaged: line 2 of" in capsys.readouterr().err
    rewrite(config, written)
    append(Layout.of(config), config, {"action": "publish", "event": "commit", "manifest_root": "a" * 64})
    assert verify.main(command) == 1
    assert f"are missing: the newest publication was that of the root {'a' * 64}" in capsys.readouterr().err


def test_what_a_crash_left_of_a_line_is_no_entry(config: Configuration) -> None:
    written = filled(config, 2)
    Path(layout_file := Layout.of(config).at(FILE)).write_bytes(b"".join(written) + b'{"action":"te')
    assert findings(Layout.of(config), {}, config.storage) == []
    assert filled(config, 1)[:2] == written
    assert findings(Layout.of(config), {}, config.storage) == []
    assert Path(layout_file).read_bytes().count(b"\n") == 3


def test_a_trail_in_an_object_store_is_a_chain_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.runs.audit.open_table", lambda *_: None)  # it does not know `memory:`
    remote = configuration(Path("/"), [{"format": "jsonl", "path": "*.jsonl"}])
    remote = remote.model_copy(
        update={"dataset": remote.dataset.model_copy(update={"root": "memory://audit"})}
    )
    for number in range(3):
        append(Layout.of(remote), remote, {"event": number})
    assert findings(Layout.of(remote), {}, remote.storage) == []
