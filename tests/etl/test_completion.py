"""Complete stages are not run again, and whatever they were made from makes them run when it changes."""

import importlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from etl.clean import clean
from etl.deduplicate import deduplicate
from etl.encode import encode
from etl.ingest import ingest
from etl.pipeline import run_stages
from etl.runs import completion
from etl.runs.audit import versions
from etl.runs.stage import timed
from etl.split import split
from etl.versions.publishing import published
from schemas.config import Configuration
from schemas.manifest import Manifest
from schemas.tables import Layout
from tests.etl.sources.source_files import configuration, write_numbered

STAGES = {"ingest": ingest, "clean": clean, "deduplicate": deduplicate, "split": split, "encode": encode}


@pytest.fixture
def config(tmp_path: Path) -> Configuration:
    write_numbered(tmp_path / "a.jsonl", range(40))
    config = configuration(tmp_path, [{"format": "jsonl", "path": f"{tmp_path}/*.jsonl"}])
    return changed(config, feature=[config.feature[0].model_copy(update={"vocabulary": 300, "length": 8})])


def changed(config: Configuration, **sections: object) -> Configuration:
    return config.model_copy(update=sections)


def run(spark: SparkSession, config: Configuration, last: str = "encode") -> None:
    """Runs the stages up to one of them, all of which have to commit something."""
    for name in list(STAGES)[: list(STAGES).index(last) + 1]:
        before = versions(Layout.of(config), config.storage)
        timed(name, STAGES[name], spark, config)
        assert versions(Layout.of(config), config.storage) != before


def first_to_run(spark: SparkSession, config: Configuration) -> str | None:
    """The first stage that is not complete."""
    return next((name for name in STAGES if completion.COMPLETION[name](spark, config) is None), None)


def test_whatever_a_stage_was_made_from_makes_it_run_when_it_changes(
    spark: SparkSession, config: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert first_to_run(spark, config) == "ingest"
    run(spark, config)
    assert first_to_run(spark, config) is None
    sections: dict[str, tuple[dict[str, object], str | None]] = {
        "publish": ({"shards": 2}, None),
        "split": ({"seed": 5}, "split"),
        "deduplicate": ({"similarity": 0.7}, "deduplicate"),
        "clean": ({"rules": ["white_space"]}, "clean"),
        "columns": ({"group": "label2"}, "ingest"),
    }
    for name, (values, stage) in sections.items():
        other = changed(config, **{name: getattr(config, name).model_copy(update=values)})
        assert first_to_run(spark, other) == stage
    shorter = changed(config, feature=[config.feature[0].model_copy(update={"length": 4})])
    assert first_to_run(spark, shorter) == "encode"

    reseeded = changed(config, split=config.split.model_copy(update={"seed": 5}))
    timed("split", split, spark, reseeded)
    assert first_to_run(spark, reseeded) == "encode"  # made from the ledger before
    assert first_to_run(spark, config) == "split"
    similar = changed(reseeded, deduplicate=config.deduplicate.model_copy(update={"similarity": 0.7}))
    assert first_to_run(spark, similar) == "deduplicate"  # `split` hands on what the ledger was made from

    with monkeypatch.context() as patch:
        patch.setattr(completion, "code_sha256", lambda: "other code")
        assert first_to_run(spark, reseeded) == "ingest"
    os.utime(tmp_path / "a.jsonl", (0, 0))
    assert first_to_run(spark, reseeded) == "ingest"


def test_the_code_is_the_same_in_a_folder_and_in_a_zip_and_another_when_a_module_changes(
    tmp_path: Path,
) -> None:
    files = {"__init__.py": b"", "a.py": b"x = 1", "sub/__init__.py": b"", "sub/b.py": b"", "data.txt": b"t"}
    for name, content in files.items():
        (tmp_path / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "code" / name).write_bytes(content)
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as packed:
        for name in reversed(files):
            packed.write(tmp_path / "code" / name, f"code/{name}")
    found = list(completion.modules(tmp_path / "code", "code"))
    assert found == list(completion.modules(zipfile.Path(tmp_path / "code.zip", "code/"), "code"))
    assert dict(found) == {f"code/{name}": content for name, content in files.items() if name.endswith(".py")}


@pytest.mark.thorough  # the test of killed pipelines runs one in every `make test`
def test_a_stage_that_broke_off_before_its_last_table_is_not_complete(
    spark: SparkSession, config: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(spark, config)
    # What had not committed anything when it broke off was, and is, complete; so is `deduplicate`, whose first table is
    # the same again.
    for stage, last, expected in (
        ("encode", "encoded", None),
        ("split", "ledger", None),
        ("deduplicate", "ledger", None),
        ("clean", "ledger", "clean"),
        ("ingest", "records", "ingest"),
    ):
        module = importlib.import_module(f"etl.{stage}")
        with monkeypatch.context() as patch:
            patch.setattr(module, "write_table", breaking(module.write_table, last))
            with pytest.raises(KeyboardInterrupt):
                timed(stage, STAGES[stage], spark, config, again=True)
        assert first_to_run(spark, config) == expected


def breaking(write: Callable[..., int], last: str) -> Callable[..., int]:
    """Writes tables as usual, but for one."""

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
    assert "l" * 32 not in json.dumps(completion.clean_basis(config, ""))


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
    for name in STAGES:
        assert f"{name}: complete, from the same input and configuration" in said
    assert "publish: complete, version 0 stands with every file as published" in said

    report = Path(layout.at("quality", "report.html"))
    report.unlink()
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
