"""Published versions: the changes between them, rolling back to one, and deleting those no longer retained."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from common.errors import DataError, QualityGateError, UsageError
from etl import history, rollback, vacuum, verify
from etl.runs.audit import versions
from etl.runs.run import Run
from etl.versions import retention, timeline
from etl.versions.building import STAGES, run_stages
from etl.versions.restoring import roll_back
from etl.versions.verification import findings
from schemas import manifest as manifests
from schemas.config import Configuration
from schemas.manifest import Manifest
from schemas.settings import Versions
from schemas.tables import Layout
from tests.etl.sources.source_files import write_numbered
from tests.faults.pipeline_runs import PipelineFolder

KEEP_ONE = """
[versions]
keep = 1
keep_days = 0.0
"""
EXPECTATIONS = """
import great_expectations as gx

def expectations():
    return [gx.expectations.ExpectColumnValuesToBeInSet(column="label", value_set=["x", "y", "z"])]
"""


def publish(spark: SparkSession, config: Configuration) -> Manifest:
    return run_stages(spark, config, 0.0, again=False)[0]


@pytest.fixture
def folder(small: PipelineFolder, tmp_path: Path) -> PipelineFolder:
    """Copy the small data set, and configure it to keep a single version."""
    copied = small.copied_to(tmp_path / "run")
    copied.conf.write_text(copied.conf.read_text() + KEEP_ONE)
    return copied


@pytest.fixture
def two(spark: SparkSession, folder: PipelineFolder) -> list[Manifest]:
    """Publish two versions, the second with another file and other rules."""
    first = folder.manifest()
    write_numbered(folder.files / "b.jsonl", range(1000, 1010))
    return [first, publish(spark, split_again(folder.config))]


def split_again(config: Configuration) -> Configuration:
    return config.model_copy(update={"split": config.split.model_copy(update={"seed": 3})})


def test_versions_are_listed_made_current_again_and_deleted(
    spark: SparkSession,
    folder: PipelineFolder,
    two: list[Manifest],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, flags, layout = folder.config, ["--config", str(folder.conf)], folder.layout
    first, second = two
    assert history.main(flags) == 0
    shown = capsys.readouterr().out
    counts = second.content.counts
    assert f"version 1, current: {counts['published']} of {counts['records_in']} records" in shown
    for manifest in two:
        made = manifest.provenance
        assert f"  root {manifest.manifest_root}\n  configuration {made.configuration_sha256}, code " in shown
    for change in (
        "  configuration: split\n",
        "  sources: 1 new\n",
        "  counts: records in +10, published +10\n",
    ):
        assert change in shown
    assert shown.endswith("  the first version\n")

    # Back to the first; an interruption between commit and manifest is made good.
    with monkeypatch.context() as patch:
        patch.setattr("common.storage.write_bytes", full_disk)
        with pytest.raises(DataError, match="a disk is full"):
            rollback.main([*flags, "--to", "0"])
    assert DeltaTable(layout.shards).version() == 2
    assert newest(config).delta_version == 1
    assert rollback.main([*flags, "--to", "0"]) == 0
    assert DeltaTable(layout.shards).version() == 2
    back = newest(config)
    assert (back.delta_version, back.manifest_root) == (2, first.manifest_root)
    ids = DeltaTable(layout.shards).to_pyarrow_table(columns=["record_id"])["record_id"].to_pylist()
    assert len(ids) == first.content.counts["published"] == counts["published"] - 10
    assert not {str(n) for n in range(1000, 1010)} & set(ids)
    capsys.readouterr()
    for which in (["--version", "0"], ["--version", "1"], ["latest"]):
        assert verify.main([*which, *flags]) == 0
    roots = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("root ")]
    assert roots == [first.manifest_root, second.manifest_root, first.manifest_root]
    assert timeline.history(config)[-1].changes == ["the content of version 0 again"]
    assert rollback.main([*flags, "--to", "2"]) == 0  # already current
    assert len(timeline.history(config)) == 3
    for wrong, told in (("9", "there is no manifest of version 9"), ("-1", "versions count from 0")):
        with pytest.raises(UsageError, match=told):
            rollback.main([*flags, "--to", wrong])

    # A damaged version cannot be made current, and while a retained one is damaged nothing is deleted.
    shard = Path(second.shard_uri(second.splits["train"].shards[0]))
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + b"x")
    with pytest.raises(DataError, match=r"version 1 cannot be made current: .* is damaged"):
        roll_back(config, 1)
    shard.write_bytes(content)
    assert roll_back(config, 1).delta_version == 3
    shard.unlink()
    with pytest.raises(DataError, match=r"version 3, which is kept, is damaged; nothing was deleted"):
        vacuum.main(flags)
    shard.write_bytes(content)
    at = versions(layout, config.storage)
    assert vacuum.main([*flags, "--dry-run"]) == 0
    assert versions(layout, config.storage) == at
    assert findings(first, config.storage) == []

    # The inputs of a retained version stay, even if it is not the newest and the tables were rewritten since.
    wide = config.model_copy(update={"versions": Versions(keep=4, keep_days=0.0)})
    assert retention.vacuum(wide, datetime.now(UTC))["versions"] == 0
    for manifest in two:
        assert findings(manifest, config.storage) == []
        assert rows_read(manifest, layout) == manifest.content.counts["records_in"]

    assert vacuum.main(flags) == 0
    current = newest(config)
    assert findings(current, config.storage) == []
    assert findings(first, config.storage) != []
    assert list(manifests.published(layout.manifests)) == [3]
    assert [(v.number, v.expired) for v in timeline.history(config)] == [
        *((number, True) for number in range(3)),
        (3, False),
    ]
    left = {path.name for path in Path(layout.shards).glob("split=*/*.parquet")}
    assert left == {shard.path.split("/")[-1] for c in second.splits.values() for shard in c.shards}
    artifacts = {path.name for path in Path(layout.artifacts).iterdir()}
    assert artifacts == {artifact.sha256 for artifact in second.content.artifacts}
    # The inputs of the retained version are still readable at the table versions that it names.
    for name, version in second.provenance.silver_versions.items():
        assert len(DeltaTable(layout.at("silver", name), version=version).to_pyarrow_table()) > 0

    # A commit by vacuum is no new content: nothing has to run again.
    same = split_again(config)
    assert all(stage.completion(Run(spark, same)) is not None for stage in STAGES)
    assert publish(spark, same).manifest_root == second.manifest_root
    assert verify.main(["latest", *flags]) == 0


@pytest.mark.thorough  # the gates themselves are tested in test_drift.py and test_expectations.py
def test_what_moved_too_far_or_is_not_as_expected_leaves_the_version_before(
    spark: SparkSession, folder: PipelineFolder, tmp_path: Path
) -> None:
    flags, config, current = ["latest", "--config", str(folder.conf)], folder.config, folder.manifest()
    (folder.files / "c.jsonl").write_text(
        '{"id": "c", "label": "w", "text": "of another class and length"}\n'
    )
    (tmp_path / "mine.py").write_text(EXPECTATIONS)
    limits = {"max_class_drift": 0.001, "expectations_file": str(tmp_path / "mine.py")}
    strict = config.model_copy(update={"quality": config.quality.model_copy(update=limits)})
    with pytest.raises(QualityGateError, match="2 quality gates failed") as raised:
        publish(spark, strict)
    assert raised.value.exit_status == 3
    assert "the class mix is" in str(raised.value)
    assert "(label): 1 of " in str(raised.value)
    assert newest(config) == current
    assert verify.main(flags) == 0
    assert publish(spark, config).classes() == [
        "x",
        "y",
        "z",
        "w",
    ]  # new ones come last, as rows keep their index


def rows_read(manifest: Manifest, layout: Layout) -> int:
    """Read each table of bronze and silver at the version that a manifest names; return the records of bronze."""
    made, rows = manifest.provenance, {}
    for layer, numbers in (("bronze", made.bronze_versions), ("silver", made.silver_versions)):
        for name, number in numbers.items():
            rows[name] = len(DeltaTable(layout.at(layer, name), version=number).to_pyarrow_table())
    return rows["records"] + rows["quarantine"]


def newest(config: Configuration) -> Manifest:
    return manifests.load(manifests.newest(Layout.of(config).manifests))


def full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("keep", "days", "kept"), [(1, 0.0, [3]), (2, 0.0, [2, 3]), (1, 2.5, [1, 2, 3]), (9, 0.0, [0, 1, 2, 3])]
)
def test_versions_stay_by_number_or_by_age(keep: int, days: float, kept: list[int]) -> None:
    now = datetime(2026, 1, 10, tzinfo=UTC)
    published_at = {number: now - timedelta(days=3 - number) for number in range(4)}
    assert sorted(retention.kept_versions(published_at, Versions(keep=keep, keep_days=days), now)) == kept


def test_what_an_interrupted_ingest_restores_is_kept(folder: PipelineFolder) -> None:
    """As an ingest leaves it that broke off after it wrote bronze/sources, before it wrote bronze/records."""
    layout, manifest = Layout.of(folder.config), folder.manifest()
    sources = DeltaTable(layout.at("bronze", "sources"))
    before = sources.version()
    write_deltalake(sources.table_uri, sources.to_pyarrow_table(), mode="overwrite")
    needed = retention.needed_versions("bronze", "sources", [manifest], folder.config)
    assert needed == {before, before + 1}
    manifest = manifest.model_copy(
        update={"provenance": manifest.provenance.model_copy(update={"bronze_versions": {}})}
    )
    assert retention.needed_versions("bronze", "sources", [manifest], folder.config) == needed
