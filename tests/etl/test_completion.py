"""Complete stages are not run again, and a change to any of their inputs makes them run."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyspark.sql import SparkSession

from common.storage import Storage
from etl.lake.log import Commit, row_count, stages_since
from etl.lake.tables import write_table
from etl.reporting.page import OF_REPORT
from etl.runs import code, completion
from etl.runs.audit import TABLES, versions
from etl.runs.run import Run
from etl.stages.clean import clean_fingerprint
from etl.stages.running import timed
from etl.versions.building import STAGES, nothing_new, run_stages
from etl.versions.publishing import CODE, published
from schemas.config import Configuration
from schemas.manifest import Manifest
from schemas.tables import Layout
from tests.etl.sources.source_files import configuration, write_numbered

NAMED = {stage.name: stage for stage in STAGES}


@pytest.fixture
def config(tmp_path: Path) -> Configuration:
    write_numbered(tmp_path / "a.jsonl", range(40))
    config = configuration(tmp_path, [{"format": "jsonl", "path": f"{tmp_path}/*.jsonl"}])
    return changed(config, feature=[config.feature[0].model_copy(update={"vocabulary": 300, "length": 8})])


def changed(config: Configuration, **sections: object) -> Configuration:
    return config.model_copy(update=sections)


def run(spark: SparkSession, config: Configuration, last: str = "encode") -> None:
    """Run the stages up to `last`, all of which have to commit something."""
    for stage in STAGES[: STAGES.index(NAMED[last]) + 1]:
        before = versions(Layout.of(config), config.storage)
        timed(stage, Run(spark, config))
        assert versions(Layout.of(config), config.storage) != before


def writers(config: Configuration) -> dict[str, set[str]]:
    """Return the stages that have commits in each table of bronze and silver."""
    tables = {
        name: Layout.of(config).at(layer, name) for layer in ("bronze", "silver") for name in TABLES[layer]
    }
    found = {name: stages_since(uri, -1, config.storage) for name, uri in tables.items()}
    return {name: stages for name, stages in found.items() if stages}


def noting(opened: list[str]) -> type[Commit]:
    """Return a `Commit` that notes the tables that it is asked for."""

    class Noting(Commit):
        @classmethod
        def of(cls, uri: str, options: Storage) -> Commit | None:
            opened.append(uri)
            return Commit.of(uri, options)

    return Noting


def first_to_run(spark: SparkSession, config: Configuration) -> str | None:
    """Return the first stage that is not complete."""
    return next((stage.name for stage in STAGES if stage.completion(Run(spark, config)) is None), None)


@pytest.mark.thorough
def test_whatever_a_stage_was_made_from_makes_it_run_when_it_changes(
    spark: SparkSession, config: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert first_to_run(spark, config) == "ingest"
    run(spark, config)
    assert first_to_run(spark, config) is None
    for stage, tables in (
        ("ingest", ("sources", "quarantine", "records")),
        ("clean", ("fields",)),
        ("deduplicate", ("signatures", "clusters")),
        ("split", ("ledger",)),
        ("encode", ("encoded",)),
    ):
        assert all(writers(config)[table] == {stage} for table in tables)
    sections: dict[str, tuple[dict[str, object], str | None]] = {
        "publish": ({"shards": 2}, None),
        "split": ({"seed": 5}, "split"),
        "deduplicate": ({"similarity": 0.7}, "deduplicate"),
        "clean": ({"rules": ["white_space"]}, "clean"),
        "columns": ({"group": "label2"}, "ingest"),
    }
    for name, (values, first) in sections.items():
        other = changed(config, **{name: getattr(config, name).model_copy(update=values)})
        assert first_to_run(spark, other) == first
    shorter = changed(config, feature=[config.feature[0].model_copy(update={"length": 4})])
    assert first_to_run(spark, shorter) == "encode"

    reseeded = changed(config, split=config.split.model_copy(update={"seed": 5}))
    timed(NAMED["split"], Run(spark, reseeded))
    assert first_to_run(spark, reseeded) == "encode"  # made from the ledger before
    assert first_to_run(spark, config) == "split"
    similar = changed(reseeded, deduplicate=config.deduplicate.model_copy(update={"similarity": 0.7}))
    assert first_to_run(spark, similar) == "deduplicate"  # `split` passes on the inputs of the ledger

    with monkeypatch.context() as patch:
        patch.setattr(completion, "code_sha256", lambda stage: f"other code of {stage}")
        assert first_to_run(spark, reseeded) == "ingest"
    os.utime(tmp_path / "a.jsonl", (0, 0))
    assert first_to_run(spark, reseeded) == "ingest"


def test_a_stage_runs_anew_by_its_own_code_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed module affects nothing before the report, everything, or the stages that import it."""
    known = code.sources()
    monkeypatch.setattr(code, "code_of", code.code_of.__wrapped__)  # nothing is remembered

    def fingerprints(changed: str = "") -> dict[str, str]:
        others = {**known, changed: known[changed] + b"# changed"} if changed else known
        monkeypatch.setattr(code, "sources", lambda: others)
        return {name: code.code_sha256(name) for name in NAMED}

    before = fingerprints()
    assert len(set(before.values())) == len(before)
    for module, touched in (
        ("etl.reporting.records", ()),
        ("etl.gates.limits", ()),
        ("etl.figures.summary", ()),
        ("etl.stages.running", ()),
        ("etl.runs.audit", ()),
        ("etl.report", ()),
        ("common.pages.page", ()),
        ("schemas.class_mix", ()),
        ("etl.versions.building", ()),
        *((f"etl.stages.{name}", (name,)) for name in NAMED),
        ("etl.rules.language", ("clean",)),  # found by its location alone, like the next three
        ("etl.sources.files.csv", ("ingest",)),
        ("etl.encoders.category", ("encode",)),
        ("schemas.features.date", tuple(NAMED)),
        ("etl.duplicates.minhash", ("deduplicate",)),
        ("etl.splits.units", ("split",)),
        ("etl.lake.tables", tuple(NAMED)),
        ("etl", tuple(NAMED)),
    ):
        after = fingerprints(module)
        assert {name for name in NAMED if after[name] != before[name]} == set(touched), module


def test_code_of_a_third_party_touches_the_stages_that_use_its_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = {
        "my_kinds": b"",
        "my_kinds.parsing": b"",
        "my_kinds.etl.sources.files.pairs": b"from my_kinds import parsing",
        "my_kinds.etl.encoders.width": b"",
        "my_kinds.schemas.sources.pairs": b"",
        "my_kinds.training.models.tiny": b"",
    }
    known = {**code.sources(), **foreign}
    monkeypatch.setattr(code, "code_of", code.code_of.__wrapped__)

    def fingerprints(changed: str) -> dict[str, str]:
        monkeypatch.setattr(code, "sources", lambda: {**known, changed: known[changed] + b"# changed"})
        return {name: code.code_sha256(name) for name in NAMED}

    before = fingerprints("etl.report")
    for module, touched in (
        ("my_kinds.parsing", {"ingest"}),
        ("my_kinds.etl.sources.files.pairs", {"ingest"}),
        ("my_kinds.etl.encoders.width", {"encode"}),
        ("my_kinds.schemas.sources.pairs", set(NAMED)),
        ("my_kinds.training.models.tiny", set()),
    ):
        after = fingerprints(module)
        assert {name for name in NAMED if after[name] != before[name]} == touched, module


def test_changed_gates_publish_and_a_changed_report_is_written_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    known = code.sources()

    def fingerprints(changed: str) -> list[str]:
        monkeypatch.setattr(code, "sources", lambda: {**known, changed: known[changed] + b"# changed"})
        return [code.code_of.__wrapped__(*CODE), code.code_of.__wrapped__(*OF_REPORT)]

    before = fingerprints("etl.report")
    gates, section = fingerprints("etl.gates.limits"), fingerprints("etl.reporting.records")
    assert [now != then for now, then in zip(gates, before, strict=True)] == [True, True]
    assert [now != then for now, then in zip(section, before, strict=True)] == [False, True]


def test_the_code_is_the_same_in_a_folder_and_in_a_zip(tmp_path: Path) -> None:
    files = {"__init__.py": b"", "a.py": b"x = 1", "sub/__init__.py": b"", "sub/b.py": b"", "data.txt": b"t"}
    for name, content in files.items():
        (tmp_path / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "code" / name).write_bytes(content)
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as packed:
        for name in reversed(files):
            packed.write(tmp_path / "code" / name, f"code/{name}")
    found = dict(code.modules(tmp_path / "code", "code"))
    assert found == dict(code.modules(zipfile.Path(tmp_path / "code.zip", "code/"), "code"))
    assert found == {"code": b"", "code.a": b"x = 1", "code.sub": b"", "code.sub.b": b""}


def test_imports_are_found_wherever_they_stand() -> None:
    known = {
        "a": b"",
        "a.b": b"def f():\n    from a import c",
        "a.c": b"import a.d.one",
        "a.d": b"",
        "a.d.one": b"from x import y",
        "a.d.two": b"",
        "a.e": b"NAME = f'a.d.{x}'",
    }
    assert code.closure(["a.b"], known).keys() == {"a", "a.b", "a.c", "a.d", "a.d.one"}
    assert code.closure(["a.e"], known).keys() == {"a", "a.e", "a.d", "a.d.one", "a.d.two"}
    assert code.closure(["a.d"], known).keys() == {"a", "a.d", "a.d.one", "a.d.two"}


@pytest.mark.thorough  # the test of killed pipelines runs one in every `make test`
def test_a_stage_that_broke_off_before_its_last_table_is_not_complete(
    spark: SparkSession, config: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(spark, config)
    # A stage that had not committed anything when it broke off was, and is, complete; so is `deduplicate`, whose first
    # table is the same again.
    for stage, last, expected in (
        ("encode", "encoded", None),
        ("split", "ledger", None),
        ("clean", "fields", None),
        ("deduplicate", "clusters", None),
        ("ingest", "records", "ingest"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr("etl.runs.run.write_table", breaking(write_table, last))
            with pytest.raises(KeyboardInterrupt):
                timed(NAMED[stage], Run(spark, config), again=True)
        assert first_to_run(spark, config) == expected


def breaking(write: Callable[..., int], last: str) -> Callable[..., int]:
    """Wrap `write` to break off at the table `last`."""

    def wrote(frame: object, uri: str, *more: object, **named: object) -> int:
        if uri.endswith(last):
            raise KeyboardInterrupt
        return write(frame, uri, *more, **named)

    return wrote


def test_the_key_of_pseudonyms_belongs_to_what_texts_are_cleaned_from(
    spark: SparkSession, config: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    emails = config.clean.emails.model_copy(update={"action": "pseudonym"})
    config = changed(config, clean=config.clean.model_copy(update={"emails": emails}))
    monkeypatch.setenv("RINGLAKE_PSEUDONYM_KEY", "k" * 32)
    run(spark, config, "clean")
    assert first_to_run(spark, config) == "deduplicate"
    monkeypatch.setenv("RINGLAKE_PSEUDONYM_KEY", "l" * 32)
    assert first_to_run(spark, config) == "clean"
    assert "l" * 32 not in json.dumps(clean_fingerprint(config, "").model_dump())


def test_rows_are_counted_by_the_log_or_the_files(tmp_path: Path) -> None:
    uri = str(tmp_path / "table")
    assert row_count(uri, Storage()) == 0
    for rows in (3, 4):
        write_deltalake(uri, pa.table({"a": list(range(rows))}), mode="append")
    assert (row_count(uri, Storage()), row_count(uri, Storage(), version=0)) == (7, 3)
    log = Path(uri) / "_delta_log" / f"{1:020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        action.get("add", {}).pop("stats", None)
    log.write_text("\n".join(map(json.dumps, actions)))
    assert row_count(uri, Storage()) == 7


@pytest.mark.thorough
def test_a_pipeline_with_nothing_new_to_do_commits_nothing_and_mends_what_is_damaged(
    spark: SparkSession, config: Configuration, capsys: pytest.CaptureFixture[str]
) -> None:
    def published_now() -> Manifest:
        return run_stages(spark, config, 0.0, again=False)[0]

    layout = Layout.of(config)
    first, at = published_now(), versions(layout, config.storage)
    capsys.readouterr()
    assert published_now() == first
    assert versions(layout, config.storage) == at
    said = "".join(capsys.readouterr())
    for name in NAMED:
        assert f"{name}: complete, with the same input and configuration" in said
    assert "publish: complete, version 0 is current, with every file as published" in said
    report = Path(layout.at("quality", "report.html"))
    assert nothing_new(config) == (first, str(report))

    report.unlink()
    assert nothing_new(config) is None
    assert published_now() == first
    assert first.manifest_root in report.read_text()

    shard = Path(first.shard_uri(first.splits["train"].shards[0]))
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + b"x")
    assert published(config) is None
    (manifest,) = Path(layout.manifests).iterdir()
    manifest.unlink()
    assert published_now().manifest_root == first.manifest_root
    assert shard.read_bytes() == content
    assert versions(layout, config.storage) == at
