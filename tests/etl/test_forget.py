"""Erasure: a person's records leave all tables, no later run restores them, and vacuum deletes the old versions."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from delta.tables import DeltaTable
from deltalake import CommitProperties, write_deltalake
from pyspark.sql import SparkSession

from common import storage
from common.errors import UsageError
from common.invocation import command_line
from etl import forget, quarantine, vacuum, verify
from etl.erasure import forgetting
from etl.erasure.finding import Person, named_ids
from etl.figures.drift import keep_profile
from etl.lake.facts import Fingerprint, RecordsFacts
from etl.lake.log import table_version
from etl.lake.tables import read_table
from etl.lake.tombstones import Tombstones, content_sha256, place_sha256, record_sha256
from etl.runs import audit
from etl.runs.run import Run
from etl.stages.clean import clean
from etl.stages.ingest import ingest
from etl.versions import retention
from etl.versions.building import STAGES, run_stages
from etl.versions.verification import findings
from schemas import manifest as manifests
from schemas.config import Configuration, canonical_json, load
from schemas.manifest import Manifest
from schemas.sources.zeek import Zeek
from schemas.tables import EXPIRED, Layout, tombstones_schema
from tests.etl.example_summary import example_summary
from tests.etl.sources.source_files import configuration
from tests.schemas import test_manifest

KEY = "a key of more than sixteen bytes"
CONFIGURATION = """
[dataset]
name = "example"
root = "{root}/warehouse"
[[source]]
format = "jsonl"
path = "{root}/*.jsonl"
[[source]]
format = "csv"
path = "{root}/*.csv"
[columns]
id = "id"
label = "label"
[[feature]]
name = "tokens"
column = "text"
vocabulary = 300
length = 8
[clean.emails]
action = "pseudonym"
[quality]
max_quarantine_share = 0.05
max_class_deviation = 1.0
max_split_deviation = 1.0
[train]
runs = "{root}/runs"
"""
SECRET = "the secret of record seven"
"""Part of the text of a record that is forgotten."""


def name_of(number: int) -> str:
    """Return an id that does not occur anywhere by chance."""
    return f"rec{number:04}x"


SEVEN, EIGHT = name_of(7), name_of(8)


def record(number: int, text: str) -> str:
    return json.dumps({"id": name_of(number), "label": "xyz"[number % 3], "text": text}) + "\n"


def write_files(folder: Path) -> None:
    """Write 60 records, a few of which are one person's; three go to quarantine."""
    lines = [record(n, f"record {n} of {n * n} says {n * 31} things about {n * 7}") for n in range(58)]
    lines[7] = record(7, SECRET)
    lines[8] = record(8, SECRET)  # a copy, which takes the other's place
    lines[20] = record(20, "write to joe@example.org about the twentieth thing")
    lines[21] = record(21, "Joe@Example.org wrote the thing after that, and more")
    lines.append('{"id": "broken", "label": "x", "text": "of joe@example.org"\n')
    lines.append(f'{{"id": "{SEVEN}", "label": "x", "text": 7}}\n')
    (folder / "a.jsonl").write_text("".join(lines))
    (folder / "b.csv").write_text(
        "id,label,text\nc1,x,a record of a table\nc2,x\nc3,y,another record of it\n"
    )


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    monkeypatch.setenv("RINGLAKE_PSEUDONYM_KEY", KEY)
    write_files(tmp_path)
    file = tmp_path / "conf.toml"
    file.write_text(CONFIGURATION.format(root=tmp_path))
    return load(file)


def rows(spark: SparkSession, config: Configuration, name: str) -> list[dict[str, Any]]:
    """Return the rows of a table in a fixed order, without times."""
    frame = read_table(spark, getattr(Layout.of(config), name)).drop("ingested", "forgotten")
    return sorted((row.asDict(recursive=True) for row in frame.collect()), key=repr)


def publish(spark: SparkSession, config: Configuration, again: bool = False) -> Manifest:
    return run_stages(spark, config, 0.0, again)[0]


def published_ids(spark: SparkSession, manifest: Manifest) -> set[str]:
    uris = [manifest.shard_uri(shard) for content in manifest.splits.values() for shard in content.shards]
    return {row[0] for row in spark.read.parquet(*uris).select("record_id").collect()}


def write_run(config: Configuration, name: str, roots: list[str]) -> None:
    folder = Path(config.train.runs) / name
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"manifest_root": roots[-1]}))
    (folder / "checkpoints/chain.jsonl").write_text(
        "".join(json.dumps({"manifest_root": root}) + "\n" for root in roots)
    )


def files_with(folder: Path, content: bytes) -> list[str]:
    """Return the files below a folder that contain some bytes, in Parquet files also as part of a value."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            held = path.read_bytes()
            if path.suffix == ".parquet":
                held += repr(pq.read_table(path).to_pylist()).encode()
            if content in held:
                found.append(str(path.relative_to(folder)))
    return found


def test_a_record_is_erased_for_good(
    spark: SparkSession,
    config: Configuration,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout, began = Layout.of(config), datetime.now(UTC)
    first = publish(spark, config)
    assert SEVEN in published_ids(spark, first)
    assert EIGHT not in published_ids(spark, first)
    write_run(config, "old", [first.manifest_root])
    write_run(config, "other", ["0" * 64])
    splits = {row["record_id"]: row["split"] for row in rows(spark, config, "ledger") if row["split"]}

    done = forgetting.forget(spark, config, Person.of([SEVEN]))
    # Once as a record and once in quarantine.
    assert (done.records, done.quarantined) == (1, 1)
    (trace,) = done.traces.versions
    assert trace.version == 0
    assert sum(trace.rows.values()) == 1
    assert trace.runs == (str(Path(config.train.runs) / "old"),)
    assert done.traces.not_known == []
    for name in ("records", "fields", "clusters", "ledger", "signatures", "encoded"):
        assert SEVEN not in {row["record_id"] for row in rows(spark, config, name)}
    for name in ("clusters", "ledger"):
        (copy,) = (row for row in rows(spark, config, name) if row["record_id"] == EIGHT)
        assert (copy["reason"], copy["cluster_id"]) == (None, None)
    reasons = Counter(row["reason"] for row in rows(spark, config, "quarantine"))
    assert reasons == {"forgotten": 2, "invalid_json": 1, "wrong_field_count": 1}
    assert all(
        row["raw"] is None for row in rows(spark, config, "quarantine") if row["reason"] == "forgotten"
    )

    # Stages that look at each record alone need not run again.
    assert [stage.name for stage in STAGES if stage.completion(Run(spark, config)) is not None] == [
        "ingest",
        "clean",
    ]
    second = publish(spark, config)
    assert published_ids(spark, second) == published_ids(spark, first) - {SEVEN} | {EIGHT}
    after = {row["record_id"]: row["split"] for row in rows(spark, config, "ledger")}
    # The copy takes the place of the other: a text that a model has learned from is not tested on.
    assert after == after | {EIGHT if name == SEVEN else name: split for name, split in splits.items()}
    assert second.content.counts["records_in"] == first.content.counts["records_in"]
    # Including forgotten records, the quarantine exceeds max_quarantine_share: they do not count.
    silver = {name: rows(spark, config, name) for name in ("fields", "ledger")}
    # If only the quarantine is concerned, every stage stays complete, and the version has the same content.
    monkeypatch.setattr("etl.spark.session.build_session", lambda *_: spark)
    monkeypatch.setattr(spark, "stop", lambda: None)
    capsys.readouterr()
    assert forget.main(["--config", str(tmp_path / "conf.toml"), "--record", "c2"]) == 0
    assert "erased: 0 records, and 1 in quarantine" in capsys.readouterr().err
    entry = json.loads(Path(layout.at(audit.FILE)).read_bytes().splitlines()[-1])
    assert (entry["action"], entry["event"], entry["published_in"]) == ("forget", "end", [])
    assert (entry["counts"]["records"], entry["counts"]["quarantined"]) == (0, 1)
    assert entry["counts"]["tombstones"] > 0
    assert "c2" not in entry["command"]
    buried = read_table(spark, layout.tombstones)
    assert buried.columns == ["kind", "sha256", "forgotten"]
    for row in buried.collect():
        assert re.fullmatch("[0-9a-f]{64}", row["sha256"])
        assert began <= row["forgotten"].astimezone(UTC) <= datetime.now(UTC)
    assert all(stage.completion(Run(spark, config)) is not None for stage in STAGES)
    assert publish(spark, config).manifest_root == second.manifest_root
    assert {name: rows(spark, config, name) for name in ("fields", "ledger")} == silver

    # The old version remains until its deletion is demanded explicitly.
    assert files_with(tmp_path / "warehouse", SECRET.encode())
    assert findings(first, config.storage) == []
    assert vacuum.main(["--config", str(tmp_path / "conf.toml"), "--forgotten"]) == 0
    assert list(manifests.published(layout.manifests)) == [second.delta_version]
    # The copy in another record has the same words and stays; the id does not occur anywhere any more.
    assert files_with(tmp_path / "warehouse", SEVEN.encode()) == []
    assert files_with(tmp_path / "warehouse", KEY.encode()) == []
    assert verify.main(["latest", "--config", str(tmp_path / "conf.toml")]) == 0
    trail = Path(layout.at(audit.FILE))
    content = trail.read_bytes()
    lines = content.splitlines(keepends=True)
    lines[4] = lines[4].replace(b'"user":"', b'"user":"not-')
    trail.write_bytes(b"".join(lines))
    capsys.readouterr()
    assert verify.main(["latest", "--config", str(tmp_path / "conf.toml")]) == 1
    assert re.search(
        r"audit trail is damaged: line 5 of .* was altered: its content", capsys.readouterr().err
    )
    trail.write_bytes(content)
    # Reading the files once more gives the same tables.
    bronze = {name: rows(spark, config, name) for name in ("sources", "quarantine", "records")}
    assert ingest(Run(spark, config))["forgotten"] == 3
    again = {name: rows(spark, config, name) for name in bronze}
    # The sizes are those of the reading: of the first one, the erased records are not in the quarantine yet.
    for file in (*bronze["sources"], *again["sources"]):
        for size in ("records_size", "quarantined_size", "quarantined_lines", "skipped"):
            file.pop(size)
    assert again == bronze

    # Once more: it is already known, and nothing is written.
    at = audit.versions(layout, config.storage)
    done = forgetting.forget(spark, config, Person.of([SEVEN]))
    assert (done.records, done.quarantined, done.tombstones) == (0, 0, 0)
    assert audit.versions(layout, config.storage) == at
    assert any("version 0 was vacuumed" in sentence for sentence in done.traces.not_known)
    forgetting.report(config, done)
    assert "forgotten already" in capsys.readouterr().err


def test_a_person_is_found_by_a_pseudonym(
    spark: SparkSession, config: Configuration, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ingest(Run(spark, config))
    clean(Run(spark, config))
    (text,) = (r["text"] for r in rows(spark, config, "fields") if r["record_id"] == name_of(20))
    pseudonym = text.split()[2]
    assert pseudonym.startswith("<email:")
    done = forgetting.forget(spark, config, Person.of(pseudonyms=[pseudonym]))
    # Twice in records, in any notation, and once in a line that is not JSON.
    assert (done.records, done.quarantined) == (2, 1)
    left = rows(spark, config, "fields")
    assert not [row for row in left if pseudonym in row["text"]]
    assert len(left) == 58 - 2 + 2
    with pytest.raises(UsageError, match="no record of example has that pseudonym"):
        forgetting.forget(spark, config, Person.of(pseudonyms=[pseudonym[7:-1]]))
    with pytest.raises(UsageError, match=r"^--pseudonym, number 2 is no pseudonym") as raised:
        Person.of(pseudonyms=[pseudonym, "joe@example.org"])
    assert "joe" not in str(raised.value)

    file = str(tmp_path / "conf.toml")
    assert quarantine.main(["--config", file]) == 0
    assert "\nforgotten: 3\n" in capsys.readouterr().out
    assert quarantine.main(["--config", file, "--export", str(tmp_path / "out")]) == 0
    said = "".join(capsys.readouterr())
    assert "3 records are not among them, since they were erased" in said
    assert "joe" not in "".join(path.read_text() for path in (tmp_path / "out").rglob("*.jsonl"))


@pytest.mark.thorough
def test_what_is_erased_stays_so_when_its_id_or_its_reading_changes(
    spark: SparkSession, tmp_path: Path
) -> None:
    write_files(tmp_path)
    source = {"format": "jsonl", "path": f"{tmp_path}/*.jsonl"}
    derived = configuration(tmp_path, [source], columns={"label": "label"})
    ingest(Run(spark, derived))
    (mine,) = [row for row in rows(spark, derived, "records") if row["source_position"] == 0]
    forgetting.forget(
        spark, derived, Person.of([mine["record_id"]], places=[f"a.jsonl:{position_of(tmp_path, 58)}"])
    )
    # Other columns make other ids; with a missing column, no record meets the contract.
    for changed in ({"id": "id", "label": "label"}, {"label": "missing"}):
        config = configuration(tmp_path, [source], columns=changed)
        counts = ingest(Run(spark, config))
        assert counts["forgotten"] == 2
        assert all(row["source_position"] != 0 for row in rows(spark, config, "records"))
        for row in rows(spark, config, "quarantine"):
            assert (row["reason"] == "forgotten") == (
                row["source_position"] in (0, position_of(tmp_path, 58))
            )
            assert (row["raw"] is None) == (row["reason"] == "forgotten")
    # Other content in a file of the same size, at the same position, was not erased.
    content = (tmp_path / "a.jsonl").read_bytes()
    (tmp_path / "a.jsonl").write_bytes(content.replace(b"record 0 of 0", b"another one 0", 1))
    config = configuration(tmp_path, [source])
    assert ingest(Run(spark, config))["forgotten"] == 1
    assert name_of(0) in {row["record_id"] for row in rows(spark, config, "records")}


@pytest.mark.thorough
def test_an_erasure_that_broke_off_is_not_forgotten_itself(
    spark: SparkSession, config: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout.of(config)
    ingest(Run(spark, config))
    clean(Run(spark, config))
    with monkeypatch.context() as patch:
        patch.setattr("etl.erasure.forgetting.remove", break_off)
        with pytest.raises(InterruptedError):
            forgetting.forget(spark, config, Person.of([SEVEN]))
    # Another erasure must not report that everything is in order.
    forgetting.forget(spark, config, Person.of([name_of(9)]))
    assert SEVEN in {row["record_id"] for row in rows(spark, config, "records")}
    assert STAGES[0].completion(Run(spark, config)) is None
    # As if it had got to the first of the tables.
    DeltaTable.forPath(spark, layout.records).delete(f"record_id = '{SEVEN}'")
    done = forgetting.forget(spark, config, Person.of([SEVEN]))
    assert done.records == 1
    assert SEVEN not in {row["record_id"] for row in rows(spark, config, "fields")}
    counts = ingest(Run(spark, config))
    assert counts["forgotten"] == 3
    assert not {SEVEN, name_of(9)} & {row["record_id"] for row in rows(spark, config, "records")}
    assert STAGES[0].completion(Run(spark, config)) is not None


def break_off(*_: object) -> None:
    raise InterruptedError


@pytest.mark.thorough
def test_a_file_that_cannot_be_read_is_never_taken_for_an_erased_record(
    spark: SparkSession, config: Configuration, tmp_path: Path
) -> None:
    (tmp_path / "z.jsonl").write_text(record(99, "another file"))
    ingest(Run(spark, config))
    forgetting.forget(spark, config, Person.of([name_of(0)]))  # at position 0
    content = (tmp_path / "a.jsonl").read_bytes()
    (tmp_path / "a.jsonl").unlink()
    (tmp_path / "a.jsonl").symlink_to("/nowhere")
    ingest(Run(spark, config))
    assert [
        row["reason"] for row in rows(spark, config, "quarantine") if row["source_path"] == "a.jsonl"
    ] == ["unreadable_file"]
    (tmp_path / "a.jsonl").unlink()
    (tmp_path / "a.jsonl").write_bytes(content)
    assert ingest(Run(spark, config))["forgotten"] == 1


def position_of(folder: Path, line: int) -> int:
    return sum(map(len, (folder / "a.jsonl").read_bytes().splitlines(keepends=True)[:line]))


def test_nobody_is_forgotten_by_mistake(
    spark: SparkSession, config: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--config", str(tmp_path / "conf.toml")]
    monkeypatch.setattr("etl.spark.session.build_session", lambda *_: spark)
    monkeypatch.setattr(spark, "stop", lambda: None)
    with pytest.raises(UsageError, match="nothing was ingested that could be forgotten"):
        forgetting.forget(spark, config, Person.of(["x"]))
    ingest(Run(spark, config))
    at = table_version(Layout.of(config).records, config.storage)
    # By number, because the output of a job is kept.
    told = "has a record with 2 of the 4 ids given, in their order number 2, 4; nothing was erased$"
    with pytest.raises(UsageError, match=told):
        forget.main([*flags, "--record", SEVEN, "typo", "--record", SEVEN, "joe"])
    for places, told in (
        (["a.jsonl:1"], "nothing with raw bytes is in quarantine at a.jsonl:1"),
        (["a.jsonl:1", "joe"], "^--quarantined, number 2 is no place"),
    ):
        with pytest.raises(UsageError, match=told):
            forgetting.forget(spark, config, Person.of(places=places))
    assert table_version(Layout.of(config).records, config.storage) == at
    assert not Tombstones.of(config)
    with pytest.raises(UsageError, match="say whom to forget"):
        forget.main(flags)
    with pytest.raises(UsageError, match="nothing of example was forgotten"):
        vacuum.main([*flags, "--forgotten"])


def test_the_counts_of_versions_that_went_before_go_with_what_is_forgotten(config: Configuration) -> None:
    layout = Layout.of(config)
    buried = [{"kind": "record", "sha256": "0" * 64, "forgotten": datetime.now(UTC)}]
    write_deltalake(layout.tombstones, pa.Table.from_pylist(buried, schema=tombstones_schema()))
    today = Tombstones.of(config).fingerprint()
    # One from before, one from after the record was forgotten, and one with a manifest that is no longer readable.
    for version, erased in enumerate((None, today, today)):
        made_from = Fingerprint(configuration="", code="", inputs={"tombstones": erased})
        facts = RecordsFacts.by("ingest", config, made_from, tables={}, counts={}, failed=0)
        noted = {"userMetadata": facts.to_json()}
        write_deltalake(
            layout.records,
            pa.table({"record_id": ["x"]}),
            mode="append",
            commit_properties=CommitProperties(custom_metadata=noted),
        )
        made = test_manifest.provenance(bronze_versions={"records": version})
        manifest = Manifest.seal(test_manifest.content(dataset=f"{version}"), made, version, layout.root)
        name = manifests.name_of(version, manifest.manifest_root)
        expired = storage.join(layout.manifests, EXPIRED, name)
        storage.write_bytes(expired, manifest.to_json() if version < 2 else b"{}")
        keep_profile(example_summary(), manifest, config)
    profiles = Path(layout.quality) / "profiles"
    for dry_run, left in ((True, 3), (False, 1)):
        assert retention.vacuum(config, datetime.now(UTC), dry_run, forgotten=True)["profiles"] == 2
        assert len(list(profiles.iterdir())) == left
    after = next(path for path in (Path(layout.manifests) / EXPIRED).iterdir() if path.name[7] == "1")
    assert [path.name for path in profiles.iterdir()] == [after.name.split("-", 1)[1]]


@pytest.mark.parametrize(
    ("source", "text", "found"),
    [
        (0, '{"id": "a", "text": "b"', {"a"}),
        (0, '{"text": "b", "id":17}', {"17"}),
        (0, '{"text": "b", "ID": "a", "xid": "c"}', set()),
        (0, "no json", set()),
        (1, 'a,"b', {"a", "b"}),
        (1, "a,b\r\nc,d", {"a", "b", "c", "d", ""}),
    ],
)
def test_ids_are_found_in_records_that_cannot_be_read(
    config: Configuration, source: int, text: str, found: set[str]
) -> None:
    assert named_ids(config, source, text) == found


def test_ids_are_found_whatever_the_delimiter(config: Configuration) -> None:
    sources = [*config.source[:1], config.source[1].model_copy(update={"delimiter": "auto", "quote": ""})]
    for delimiter in ",;\t|":
        text = delimiter.join(["auto", "a b", "c"])
        assert {"auto", "a b", "c"} <= named_ids(config.model_copy(update={"source": sources}), 1, text)
    zeek = config.model_copy(update={"source": [Zeek(format="zeek", path="conn.log")]})
    assert named_ids(zeek, 0, "C1\ta b\t-") == {"C1", "a b", "-"}


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["forget", "--record", "joe", "ann", "--config", "x"], "forget --record ... --config x"),
        (["forget", "--record=joe", "--rec", "ann"], "forget --record=... --rec ..."),
        (["forget", "--record", "-7234", "joe"], "forget --record ..."),
        (["run", "--config", "a b", "--set", "x=1"], "run --config 'a b' --set x=1"),
        (
            ["run", "--set", "storage.fsspec.k=s", "--s=storage.x=s"],
            "run --set storage.fsspec.k=... --s=storage.x=...",
        ),
    ],
)
def test_whom_to_forget_stays_out_of_what_is_written_down(arguments: list[str], shown: str) -> None:
    assert command_line(arguments) == shown


def test_tombstones_hold_hashes_alone() -> None:
    found = Tombstones(frozenset([record_sha256("a")]), frozenset([place_sha256("f", 0, 7, 100)]))
    assert found.has_record("a")
    assert not found.has_record("b")
    here = [("f", 0, 7, 100), ("f", 1, 7, 100), ("f", 0, 8, 100), ("f", 0, 7, 101)]

    def hashed_as(sha256: str | None) -> Callable[[], str | None]:
        return lambda: sha256

    assert [found.has_place(*place, hashed_as("s")) for place in here] == [True, False, False, False]
    # Erasures of today in a file with only the same content, or one that cannot be hashed.
    spot = Tombstones(spots=found.places, contents=frozenset([content_sha256("f", 0, 7, "s")]))
    assert [spot.has_place(*place, hashed_as("s")) for place in here] == [True, False, False, False]
    assert [spot.has_place(*here[0], hashed_as(sha256)) for sha256 in ("t", None)] == [False, True]
    both = found.joined(spot)
    assert both.has_place(*here[0], hashed_as("t"))
    assert both.without(found) == spot
    assert both.fingerprint() != found.fingerprint()
    rows = [{"kind": k, "sha256": v.hex()} for k, values in both.by_kind().items() for v in values]
    assert Tombstones.of_rows(rows) == both
    assert both.count() == len(rows) == 4
    # That of a data set from before there were spots stays: its tables are complete.
    old = {"place": [place_sha256("f", 0, 7, 100).hex()], "raw": [], "record": [record_sha256("a").hex()]}
    assert found.fingerprint() == hashlib.sha256(canonical_json(old)).hexdigest()
    assert found.joined(found) == found
    assert not found.without(found)
    assert found.without(found).fingerprint() is None
    assert found.fingerprint() != Tombstones(found.records).fingerprint()
