"""The manifest: sealed, checked on loading, and with a root independent of places and times."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from common.errors import DataError, UsageError
from schemas.kept_tokens import KeptTokens
from schemas.manifest import (
    Column,
    Content,
    Manifest,
    Provenance,
    Shard,
    Sources,
    SplitContent,
    load,
    load_with_shards,
    name_of,
    newest,
    parse,
    provenance_hash,
    read_artifact,
)


def content(**changes: Any) -> Content:
    shard = Shard(
        path="split=train/a.parquet",
        bytes=10,
        rows=3,
        row_groups=[2, 1],
        row_group_crc32=[5, 6],
        sha256="a" * 64,
    )
    values: dict[str, Any] = {
        "dataset": "letters",
        "configuration": {"split": {"seed": 7}},
        "columns": [Column(name="record_id", role="id", dtype="string", shape=[], storage="string")],
        "schema_fingerprint": "f",
        "counts": {"records_in": 3, "published": 3},
        "sources": Sources(files=0, bytes=0, root="r", inline=[], list_sha256=None),
        "artifacts": [],
        "splits": {
            "train": SplitContent(
                rows=3,
                key_sums=(1, 2**64 - 1),
                label_counts={"a": 3},
                epoch_rows=3,
                epoch_key_sums=(1, 2**64 - 1),
                shards=[shard],
            )
        },
    }
    return Content(**{**values, **changes})


def provenance(**changes: Any) -> Provenance:
    values: dict[str, Any] = {
        "created": "2026-01-01T00:00:00+00:00",
        "host": "here",
        "user": "me",
        "command": "c",
        "code_version": "1",
        "configuration_sha256": "x",
        "spark_version": "4",
        "seconds": 1.5,
        "bronze_versions": {},
        "silver_versions": {},
    }
    return Provenance(**{**values, **changes})


def sealed(folder: Path) -> Manifest:
    return Manifest.seal(content(), provenance(), 4, str(folder))


def written(folder: Path, name: str = "m.json", manifest: Manifest | None = None) -> Path:
    """Write a manifest of the data set in `folder`, and its table of shards."""
    (folder / "gold" / "shards").mkdir(parents=True)
    (folder / "manifests").mkdir()
    file = folder / "manifests" / name
    file.write_bytes((manifest or sealed(folder)).to_json())
    return file


def of_format_4(folder: Path, stated: str) -> Path:
    """Write a manifest as format 4 had it, which states absolute paths, into the data set in `folder`."""
    manifest = Manifest.seal(content(format_version=4), provenance(), 4, stated)
    document = json.loads(manifest.to_json()) | {"table_uri": f"{stated}/gold/shards", "dataset_uri": stated}
    places = {key: document[key] for key in ("table_uri", "dataset_uri")}
    document["provenance_sha256"] = provenance_hash(manifest.provenance, 4, places)
    file = written(folder)
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


def test_it_survives_being_written_and_shows_the_splits_at_the_top(tmp_path: Path) -> None:
    manifest = sealed(tmp_path)
    text = manifest.to_json()
    assert parse(text, str(tmp_path / "manifests" / "m.json")) == manifest
    document = json.loads(text)
    assert document["splits"]["train"]["shards"][0] == {
        "path": "split=train/a.parquet",
        "bytes": 10,
        "rows": 3,
        "row_groups": [2, 1],
        "row_group_crc32": [5, 6],
        "epoch_row_groups": None,
        "sha256": "a" * 64,
    }
    assert document["table_uri"] == "../gold/shards"
    assert str(tmp_path) not in text.decode()


def test_place_and_time_are_not_in_the_root_but_in_the_hash_of_the_provenance(tmp_path: Path) -> None:
    here, there = sealed(tmp_path), Manifest.seal(content(), provenance(host="there"), 9, "/")
    assert here.manifest_root == there.manifest_root
    assert here.provenance_sha256 != there.provenance_sha256


def test_what_a_manifest_says_of_its_tokens_is_sealed_and_may_be_absent(tmp_path: Path) -> None:
    kept = KeptTokens(length=8, share=0.5, keeping={"50": 8, "90": 20, "99": 30})
    stating = Manifest.seal(content(), provenance(kept_tokens={"text": kept}), 4, str(tmp_path))
    assert parse(stating.to_json(), str(tmp_path / "manifests" / "m.json")).provenance.kept_tokens == {
        "text": kept
    }
    document = json.loads(stating.to_json())
    document["provenance"]["kept_tokens"]["text"]["share"] = 1.0
    with pytest.raises(DataError, match="was altered"):
        parse(json.dumps(document).encode(), "m.json")
    # As a manifest of a version that did not know the key.
    earlier = json.loads(sealed(tmp_path).to_json())
    del earlier["provenance"]["kept_tokens"]
    assert (
        parse(json.dumps(earlier).encode(), str(tmp_path / "manifests" / "m.json")).provenance.kept_tokens
        == {}
    )


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "others"},
        {"configuration": {"split": {"seed": 8}}},
        {"counts": {"records_in": 4, "published": 3}},
        {"columns": []},
        {"schema_fingerprint": "g"},
        {"sources": Sources(files=1, bytes=0, root="r", inline=[], list_sha256=None)},
    ],
)
def test_everything_that_training_sees_is_in_the_root(tmp_path: Path, change: dict[str, Any]) -> None:
    other = Manifest.seal(content(**change), provenance(), 4, str(tmp_path))
    assert other.manifest_root != sealed(tmp_path).manifest_root


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [p for key, inner in value.items() for p in places(inner, (*path, key))]
    if isinstance(value, list):
        return [p for key, inner in enumerate(value) for p in places(inner, (*path, key))]
    return [path]


def test_no_value_can_be_altered_unnoticed(tmp_path: Path) -> None:
    document = json.loads(sealed(tmp_path).to_json())
    altered_values = 0
    for path in places(document):
        copy = json.loads(json.dumps(document))
        here = copy
        for key in path[:-1]:
            here = here[key]
        old = here[path[-1]]
        here[path[-1]] = old + 1 if isinstance(old, int | float) else f"{old}0"
        with pytest.raises(DataError, match=r"m\.json (was altered|is not a manifest|has the format 6)"):
            parse(json.dumps(copy).encode(), "m.json")
        altered_values += 1
    assert altered_values > 30


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"{}", b'{"content": 3}', b'{"content": {}, "splits": {}}']
)
def test_what_is_not_a_manifest_is_refused(text: bytes) -> None:
    with pytest.raises(DataError, match="m is not a manifest"):
        parse(text, "m")


def test_the_newest_is_that_of_the_highest_version(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="publish the data set first"):
        newest(str(tmp_path))
    for name in (name_of(9, "b" * 64), name_of(10, "a" * 64), "notes.json", ".00000011-c.json.part"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    assert newest(str(tmp_path)) == str(tmp_path / name_of(10, "a" * 64))


def test_a_damaged_artifact_is_refused(tmp_path: Path) -> None:
    manifest = sealed(tmp_path)
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / ("0" * 64)).write_bytes(b"other")
    with pytest.raises(DataError, match="is damaged"):
        read_artifact(manifest, "0" * 64)
    with pytest.raises(DataError, match="is missing"):
        read_artifact(manifest, "1" * 64)
    with pytest.raises(DataError, match="is missing"):
        load(str(tmp_path / "none.json"))


def test_a_copy_names_its_own_files_and_so_does_a_moved_data_set(tmp_path: Path) -> None:
    first = written(tmp_path / "here" / "letters")
    copy = Path(shutil.copytree(tmp_path / "here", tmp_path / "there")) / "letters"
    assert load(str(copy / "manifests" / "m.json")).table_uri == str(copy / "gold" / "shards")
    assert load(str(first)).dataset_uri == str(tmp_path / "here" / "letters")
    (copy / "manifests" / "expired").mkdir()
    (copy / "manifests" / "m.json").rename(copy / "manifests" / "expired" / "m.json")
    assert load(str(copy / "manifests" / "expired" / "m.json")).dataset_uri == str(copy)


def test_a_manifest_behind_a_link_is_that_of_its_data_set(tmp_path: Path) -> None:
    (tmp_path / "current.json").symlink_to(written(tmp_path / "wh" / "letters"))
    assert load(str(tmp_path / "current.json")).dataset_uri == str(tmp_path / "wh" / "letters")


def test_a_manifest_alone_is_read_with_the_root_of_its_data_set(tmp_path: Path) -> None:
    alone = Path(shutil.copy(written(tmp_path / "wh" / "letters"), tmp_path / "alone.json"))
    with pytest.raises(DataError, match=r"alone\.json are not in .*/gold/shards: say with --root"):
        load_with_shards(str(alone), None, None)
    found = load_with_shards(str(alone), None, str(tmp_path / "wh"))
    assert found.table_uri == str(tmp_path / "wh" / "letters" / "gold" / "shards")
    with pytest.raises(DataError, match=r"are not in .*/elsewhere/letters/gold/shards"):
        load_with_shards(str(alone), None, str(tmp_path / "elsewhere"))


def test_the_format_before_is_read_where_it_lies_or_where_it_says(tmp_path: Path) -> None:
    stated, moved = tmp_path / "stated", tmp_path / "moved"
    file = of_format_4(stated, str(stated))
    assert load(str(file)).dataset_uri == str(stated)
    own = of_format_4(moved, str(stated))
    assert load(str(own)).table_uri == str(moved / "gold" / "shards")
    alone = Path(shutil.copy(file, tmp_path / "alone.json"))
    assert load(str(alone)).table_uri == str(stated / "gold" / "shards")
    again = load(str(own))  # to write it is to write it in the form of today
    own.write_bytes(again.to_json())
    assert load(str(own)) == again


def test_a_manifest_on_another_system_names_no_host_and_no_bucket(tmp_path: Path) -> None:
    manifest = Manifest.seal(content(), provenance(), 4, "s3://key:secret@bucket/wh/letters")
    text = manifest.to_json()
    assert b"bucket" not in text
    assert b"secret" not in text
    found = parse(text, "hdfs://name:8020/copy/letters/manifests/m.json")
    assert found.table_uri == "hdfs://name:8020/copy/letters/gold/shards"
