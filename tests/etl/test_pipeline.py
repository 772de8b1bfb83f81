"""Early ends of the pipeline, and their exit status."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from common import command
from common.errors import QualityGateError
from etl import ingest
from etl.versions.building import run_stages
from schemas.config import Configuration, load
from schemas.tables import Layout
from tests.etl.sources.source_files import write_numbered

CONFIGURATION = """
[dataset]
name = "example"
root = "{root}/warehouse"
[[source]]
format = "jsonl"
path = "{root}/*.jsonl"
[columns]
id = "id"
label = "label"
[[feature]]
name = "tokens"
column = "text"
[quality]
max_quarantine_share = 0.05
"""


@pytest.fixture
def config(tmp_path: Path) -> Configuration:
    (tmp_path / "conf.toml").write_text(CONFIGURATION.format(root=tmp_path))
    return load(tmp_path / "conf.toml")


def test_too_large_a_share_in_quarantine_stops_it_before_anything_is_cleaned(
    spark: SparkSession,
    config: Configuration,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_numbered(tmp_path / "a.jsonl", range(18))
    (tmp_path / "b.jsonl").write_text("{broken\n{broken\n")
    with pytest.raises(QualityGateError, match=r"10\.00%") as raised:
        run_stages(spark, config, 0.0, again=False)
    assert raised.value.exit_status == 3
    assert Path(Layout.of(config).quarantine).exists()
    assert not Path(Layout.of(config).fields).exists()
    # Running stage by stage gives the same, also if `ingest` is complete.
    monkeypatch.setattr("etl.stages.running.build_session", lambda *_: spark)
    monkeypatch.setattr(spark, "stop", lambda: None)
    assert command.run(ingest.main, ["--config", str(tmp_path / "conf.toml")]) == 3
    said = capsys.readouterr().err
    assert "ingest: complete" in said
    assert "a quality gate failed after ingest: 10.00% of the records read (2 of 20)" in said


def test_a_source_of_which_nothing_can_be_read_is_an_error_and_no_empty_data_set(
    spark: SparkSession,
    config: Configuration,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a.jsonl").symlink_to("/nowhere")
    monkeypatch.setattr("etl.stages.running.build_session", lambda *_: spark)
    monkeypatch.setattr(spark, "stop", lambda: None)
    assert command.run(ingest.main, ["--config", str(tmp_path / "conf.toml")]) == 1
    assert "a.jsonl" in capsys.readouterr().err
    assert not Path(Layout.of(config).records).exists()
