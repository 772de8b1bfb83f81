"""Pictures from files to a trained model: copies stay together, metadata reach no file, a run keeps its changes."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyspark.sql import SparkSession

from common.errors import UsageError
from etl.lake.tables import read_table
from etl.reporting.images import EFFECTS
from etl.versions.building import run_stages
from schemas.config import Configuration, load
from schemas.tables import Layout
from tests.data_sets import made_once
from tests.etl.images.pictures import MARKER, WITH_METADATA, exif, file_of, scene
from training import train
from training.tracking import summary

CONFIGURATION = """
[dataset]
name = "album"
root = "{root}/warehouse"
[[source]]
format = "images"
path = "{root}/in/**"
[columns]
label = "folder"
[[feature]]
name = "image"
column = "image"
encode = "image"
size = 16
[publish]
shards = 2
rows_per_group = 16
[quality]
max_quarantine_share = 0.5
max_class_deviation = 1.0
max_split_deviation = 1.0
[augment]
flip = 0.5
[model]
kind = "cnn"
channels = [8]
[optimizer]
kind = "adamw"
[train]
epochs = 1
batch = 16
streams = 4
runs = "{root}/runs"
"""
COPIED = 12
ALONE = 48
SHOWN = ("exif", "gps", "comment", "xmp", "iptc", "colour_profile", "palette", "orientation")


def copies(seed: int) -> dict[str, bytes]:
    """Return the files of a picture and its copies, exact and near."""
    image = scene(seed, 120, 90)
    return {
        "a.png": file_of(image, "PNG"),
        "b.webp": file_of(image, "WEBP", lossless=True),
        "c.jpg": file_of(image, "JPEG", quality=60),
        "d.png": file_of(image.resize((240, 180), Image.Resampling.LANCZOS), "PNG"),
        "e.png": file_of(image.transpose(Image.Transpose.ROTATE_90), "PNG"),
        "f.jpg": file_of(image, "JPEG", quality=80, exif=exif(6)),  # another way up
    }


def write_album(folder: Path) -> None:
    def write(name: str, content: bytes) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    for seed in range(COPIED):
        for name, content in copies(seed).items():
            write(f"copied/{seed}{name}", content)
    for seed in range(ALONE):
        write(f"alone/{seed}.png", file_of(scene(1000 + seed, 60, 60), "PNG"))
    for number, (make, _) in enumerate(WITH_METADATA.values()):
        write(f"told/{number}", make(500 + number))
    whole = file_of(scene(1, 300, 200), "JPEG", exif=exif(gps=True, marker=MARKER), comment=MARKER)
    write("told/cut.jpg", whole[: len(whole) // 2])
    write("told/text.jpg", MARKER)


@pytest.fixture(scope="module")
def album(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Configuration:
    """Publish the album once."""

    def publish(root: Path) -> None:
        write_album(root / "in")
        (root / "album.toml").write_text(CONFIGURATION.format(root=root))
        run_stages(spark, load(root / "album.toml"), 0.0, again=False)

    return load(made_once(tmp_path_factory, "album", publish) / "album.toml")


def root_of(config: Configuration) -> Path:
    return Path(config.dataset.root).parent


def contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield every file below a folder, and every value of the Parquet files among them."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield file, file.read_bytes()
        if file.suffix == ".parquet":
            for column in pq.read_table(file).columns:
                values = column.combine_chunks()
                while isinstance(values, pa.ListArray | pa.MapArray):
                    values = values.flatten() if isinstance(values, pa.ListArray) else values.items
                yield (
                    file,
                    repr(values.to_pylist()).encode()
                    if not pa.types.is_binary(values.type)
                    else b"".join(value or b"" for value in values.to_pylist()),
                )


def test_metadata_reach_no_file(album: Configuration, spark: SparkSession) -> None:
    """Neither as they are nor in base64, of no picture, whether it was decoded or not."""
    # The three ways in which base64 may begin within other bytes, without the signs that depend on these.
    signs = [MARKER, *(base64.b64encode(b"x" * n + MARKER + b"yyy")[4:-8] for n in range(3))]
    checked = 0
    for file, content in contents(root_of(album) / "warehouse"):
        assert not any(sign in content for sign in signs), file
        checked += 1
    assert checked > 100
    rows = read_table(spark, Layout.of(album).records).where("size(image_effects) > 0").collect()
    told = {row["source_path"]: set(row["image_effects"]) for row in rows}
    for number, (_, effects) in enumerate(WITH_METADATA.values()):
        assert told[f"told/{number}"] == {f"image.{effect}" for effect in effects}
    report = next((root_of(album) / "warehouse").rglob("quality/report.html")).read_text()
    for effect in SHOWN:
        assert EFFECTS[effect] in report
    reasons: dict[str, str] = dict(
        read_table(spark, Layout.of(album).quarantine).select("source_path", "reason").collect()
    )
    assert reasons == {"told/cut.jpg": "truncated_image", "told/text.jpg": "invalid_image"}


def test_copies_are_one_cluster_in_one_split(album: Configuration, spark: SparkSession) -> None:
    layout = Layout.of(album)
    paths = read_table(spark, layout.records).select("record_id", "source_path")
    ledger = read_table(spark, layout.ledger).join(paths, "record_id").collect()
    found: dict[int, list[Any]] = {}
    for row in ledger:
        if row["source_path"].startswith("copied/"):
            number = int("".join(c for c in row["source_path"].split("/")[1].split(".")[0] if c.isdigit()))
            found.setdefault(number, []).append(row)
    assert len(found) == COPIED
    clusters = set()
    for rows in found.values():
        assert len(rows) == 6
        (cluster,) = {row["cluster_id"] for row in rows}
        clusters.add(cluster)
        assert [row["status"] for row in rows].count("kept") == 1
        assert [row["status"] for row in rows].count("exact_duplicate") == 1
        assert len({row["split"] for row in rows if row["split"] is not None}) == 1
    assert len(clusters) == COPIED
    alone = [row for row in ledger if row["source_path"].startswith("alone/")]
    assert [row["status"] for row in alone] == ["kept"] * ALONE


def test_rows_are_uint8_and_a_run_keeps_its_augmentation(
    album: Configuration, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--config", str(root_of(album) / "album.toml"), "--run", "one"]
    assert train.main(flags) == 0
    section = summary.read(root_of(album) / "runs" / "one")["training"]
    assert section["steps"] > 1
    file = next((root_of(album) / "warehouse" / "album" / "gold" / "shards").rglob("*.parquet"))
    assert pq.read_schema(file).field("image").type == pa.binary(16 * 16 * 3)
    with pytest.raises(UsageError, match=r"augment\.flip"):
        train.main([*flags, "--resume", "--set", "augment.flip=0.25", "--set", "train.epochs=2"])
    with pytest.raises(UsageError, match="augment"):
        train.main([*flags, "--resume", "--set", "augment.flip=0", "--set", "train.epochs=2"])


def test_a_new_picture_is_an_increment(album: Configuration, spark: SparkSession) -> None:
    """It is the last test of the album, which it changes."""
    before = read_table(spark, Layout.of(album).ledger).select("record_id", "split", "status").collect()
    more = io.BytesIO(file_of(scene(3, 120, 90), "JPEG", quality=90))
    (root_of(album) / "in" / "copied" / "another.jpg").write_bytes(more.getvalue())
    (root_of(album) / "in" / "alone" / "new.png").write_bytes(file_of(scene(4000), "PNG"))
    run_stages(spark, album, 0.0, again=False)
    after = read_table(spark, Layout.of(album).ledger).select("record_id", "split", "status").collect()
    assert set(before) < set(after)
    assert sorted(row["status"] for row in set(after) - set(before)) == ["kept", "near_duplicate"]
