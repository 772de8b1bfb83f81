"""Sources of images: files with labels, bytes in Parquet, base64 in JSON lines, pixels in CSV."""

import base64
import gzip
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from common.errors import DataError
from common.images import pixels_of
from etl.images import decoding
from etl.images.decoding import Decoded, Refused
from etl.images.redaction import without_base64
from etl.lake.tombstones import Tombstones, raw_sha256
from etl.sources.contract import decoded
from etl.sources.files.pieces import list_pieces
from etl.sources.reading import QUARANTINE, Reader
from schemas.config import Configuration
from tests.etl.images.pictures import MARKER, configuration, exif, file_of, outcomes, scene, steps

LABEL = {"label": "label"}


def write(folder: Path, **files: bytes) -> None:
    """Write files; `__` in a name stands for a folder's `/`, `_` before the last part for a full stop."""
    for name, content in files.items():
        path = folder / (name.replace("__", "/").replace("_", "."))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_a_record_is_a_file_with_the_name_of_its_folder(tmp_path: Path) -> None:
    # By their content and not by their names.
    write(tmp_path / "in", cats__a_jpg=file_of(steps(), "PNG"), cats__b=file_of(scene(1), "JPEG"))
    write(tmp_path / "in", dogs__c_PNG=file_of(steps(), "TIFF"))
    records, others = outcomes(configuration(tmp_path, columns={"label": "folder"}))
    assert others == {}
    assert [(row["source_path"], row["folder"]) for row in records] == [
        ("cats/a.jpg", "cats"),
        ("cats/b", "cats"),
        ("dogs/c.PNG", "dogs"),
    ]
    assert np.array_equal(pixels_of(records[0]["image"]), np.asarray(steps()))
    assert records[0]["image"] == records[2]["image"]
    assert [row["source_bytes"] for row in records] == [
        (tmp_path / "in" / row["source_path"]).stat().st_size for row in records
    ]


def test_folders_name_columns(tmp_path: Path) -> None:
    write(tmp_path / "in", **{"label=cat__a_png": file_of(steps(), "PNG")})
    (record,), _ = outcomes(configuration(tmp_path, columns=LABEL))
    assert record["label"] == "cat"


def labelled(tmp_path: Path, table: str, **source: str) -> Configuration:
    write(tmp_path / "in", a_png=file_of(steps(), "PNG"), more__b_png=file_of(scene(1), "PNG"))
    (tmp_path / "in" / "labels.csv").write_text(table, encoding="utf-8")
    labels = {"labels": f"{tmp_path}/in/labels.csv"}
    return configuration(
        tmp_path, {"format": "images", "path": f"{tmp_path}/in/**", **labels, **source}, LABEL
    )


def test_labels_stand_in_a_csv_beside_the_files(tmp_path: Path) -> None:
    records, others = outcomes(labelled(tmp_path, '\ufefffile,label\na.png,"cat, black"\nmore/b.png,dög\n'))
    assert [row["label"] for row in records] == ["cat, black", "dög"]
    assert others == {}


def test_blanks_beside_the_commas_of_labels_are_no_part_of_them(tmp_path: Path) -> None:
    table = 'file , label\na.png, "cat, black"\nmore/b.png, dog\n'
    records, others = outcomes(labelled(tmp_path, table))
    assert [row["label"] for row in records] == ["cat, black", "dog"]
    assert others == {}


def test_the_column_of_the_paths_may_be_called_as_that_of_the_images(tmp_path: Path) -> None:
    config = labelled(tmp_path, "image,label\na.png,x\nmore/b.png,y\n", file="image")
    assert [row["label"] for row in outcomes(config)[0]] == ["x", "y"]


def test_a_file_without_a_row_is_quarantined(tmp_path: Path) -> None:
    records, others = outcomes(labelled(tmp_path, "file,label\na.png,cat\n"))
    assert [row["label"] for row in records] == ["cat"]
    assert {path: reason for path, (reason, _) in others.items()} == {"more/b.png:0": "missing_column"}


def test_rows_without_a_file_are_told_once_for_each_content(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = labelled(tmp_path, "file,label\na.png,x\nmore/b.png,y\nc.png,z\nd.png,z\n")
    records, _ = outcomes(config)
    assert [row["label"] for row in records] == ["x", "y"]
    list_pieces(config)
    told = "2 rows of labels.csv name files that the source does not have, such as 'c.png'"
    assert capfd.readouterr().err.count(told) == 1
    list_pieces(labelled(tmp_path, "file,label\na.png,x\nmore/b.png,y\nc.png,zz\nd.png,zz\n"))
    assert told in capfd.readouterr().err


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("file,label\na.png,x\na.png,y\n", "two rows for the file 'a.png': remove one"),
        ("path,label\na.png,x\n", "has no column 'file' with the paths of the files; it has path, label"),
        ("", "it has no header line"),
        ("file,label\na.png\n", "record 1 of .* has not the fields of its header"),
        ("file,label\na.png,x,y\n", "record 1 of .* has not the fields of its header"),
        ("label,file\nx,a.png\ny\n", "record 2 of .* has not the fields of its header"),
        ("file,label,label\na.png,x,y\n", "has two columns of one name: rename one"),
        ('file,label\na.png,"x\n', "is no CSV in UTF-8"),
        ("file,label,image\na.png,x,y\n", r"has a column 'image', as does each file by source\.image"),
        ("file,folder\na.png,x\n", r"has a column 'folder', as does each file by source\.folder: rename one"),
        (
            "file,label\na,x\nb,y\n",
            "none of the 2 files of the source .* has a row in labels.csv, e.g. `a.png` against `a`: correct "
            r"source\.file or the paths in it",
        ),
        ("file,label\nmore\\b.png,y\n", r"against `more\\b\.png`"),
        ("file,label\n", "`a.png` against no row at all"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(tmp_path: Path, table: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        list_pieces(labelled(tmp_path, table))


def test_labels_are_one_file(tmp_path: Path) -> None:
    config = labelled(tmp_path, "file,label\na.png,x\n", labels=f"{tmp_path}/in/*.csv")
    (tmp_path / "in" / "more.csv").write_text("")
    with pytest.raises(DataError, match=r"must name one file; '.*\*\.csv' matches labels\.csv, more\.csv$"):
        list_pieces(config)


def test_labels_name_files_in_archives(tmp_path: Path) -> None:
    config = labelled(tmp_path, "file,label\na.png,x\nmore/b.png,y\nc.zip/d/e.png,z\n")
    with zipfile.ZipFile(tmp_path / "in" / "c.zip", "w") as archive:
        archive.writestr("d/e.png", file_of(scene(2), "PNG"))
    records, others = outcomes(config)
    assert others == {}
    assert [row["label"] for row in records] == ["x", "z", "y"]


def test_the_columns_of_the_labels_have_any_name(tmp_path: Path) -> None:
    config = labelled(tmp_path, "picture,label\na.png,x\nmore/b.png,y\n", file="picture")
    assert [row["label"] for row in outcomes(config)[0]] == ["x", "y"]


def test_pictures_lie_in_archives_and_are_compressed(tmp_path: Path) -> None:
    raws = [file_of(scene(seed), "PNG") for seed in range(3)]
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "a.zip", "w") as archive:
        archive.writestr("cats/one.png", raws[0])
    with tarfile.open(tmp_path / "in" / "b.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("dogs/two.png")
        member.size = len(raws[1])
        tar.addfile(member, io.BytesIO(raws[1]))
    (tmp_path / "in" / "three.png.gz").write_bytes(gzip.compress(raws[2]))
    records, others = outcomes(configuration(tmp_path, columns={"label": "folder"}))
    assert others == {}
    assert [
        np.array_equal(pixels_of(row["image"]), np.asarray(scene(n))) for n, row in enumerate(records)
    ] == [True] * 3
    assert [row["folder"] for row in records] == ["cats", "dogs", "in"]


def base64_of(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def test_images_are_base64_in_json_lines(tmp_path: Path) -> None:
    png, jpeg = base64_of(file_of(steps(), "PNG")), base64_of(file_of(scene(1, 300, 200), "JPEG"))
    wrapped = "\n".join(png[place : place + 76] for place in range(0, len(png), 76))
    values = [png, f"data:image/png;base64,{png}", wrapped, jpeg, png[:-7], "no base64!", None, "", 7, [png]]
    values += [base64_of(b"no image"), jpeg[: len(jpeg) // 8 * 4]]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"image": v, "label": "x"}) + "\n" for v in values))
    config = configuration(tmp_path, {"format": "jsonl", "path": f"{tmp_path}/a.jsonl"}, LABEL)
    records, others = outcomes(config)
    assert len(records) == 4
    assert records[0]["image"] == records[1]["image"] == records[2]["image"]
    assert [reason for reason, _ in others.values()] == [
        "invalid_base64",
        "invalid_base64",
        "null_value",
        "empty_value",
        "invalid_base64",
        "wrong_type",
        "invalid_image",
        "truncated_image",
    ]
    assert all(png[:60].encode() not in raw for _, raw in others.values())


def test_base64_is_that_of_urls_or_without_padding() -> None:
    raws = [file_of(scene(1), "JPEG") + bytes(more) for more in range(3)]
    for raw in raws:
        of_urls = base64.urlsafe_b64encode(raw).decode()
        assert {"-", "_"} <= set(of_urls)
        for text in (of_urls, of_urls.rstrip("="), base64_of(raw).rstrip("=")):
            image, content = decoded(text, 10_000)
            assert isinstance(image, Decoded)
            assert content == raw
    assert decoded("QUJDR", 10_000)[0] == Refused("invalid_base64", "is text that is no base64")


def test_images_are_bytes_in_parquet(tmp_path: Path) -> None:
    png, other = file_of(steps(), "PNG"), file_of(scene(1), "WEBP", lossless=True)
    table = pa.table({"image": pa.array([png, other, b"text", None], pa.binary()), "label": list("xyzz")})
    pq.write_table(table, tmp_path / "a.parquet")
    config = configuration(tmp_path, {"format": "parquet", "path": f"{tmp_path}/a.parquet"}, LABEL)
    records, others = outcomes(config)
    assert [
        np.array_equal(pixels_of(row["image"]), np.asarray(i))
        for row, i in zip(records, (steps(), scene(1)), strict=True)
    ] == [True] * 2
    assert [reason for reason, _ in others.values()] == ["invalid_image", "null_value"]


def test_images_stand_in_a_struct_beside_their_path(tmp_path: Path) -> None:
    """As Hugging Face's datasets write them."""
    values = [{"bytes": file_of(steps(), "PNG"), "path": "a.png"}, {"bytes": None, "path": "b.png"}]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(values, kind), "label": [1, 2]}), tmp_path / "a.parquet")
    source = {"format": "parquet", "path": f"{tmp_path}/a.parquet"}
    config = configuration(tmp_path, source, LABEL, image={"column": "image.bytes"})
    (record,), others = outcomes(config)
    assert np.array_equal(pixels_of(record[config.image_columns()[0]]), np.asarray(steps()))
    assert [reason for reason, _ in others.values()] == ["null_value"]


PIXELS = {"first": "p0", "height": 2, "width": 3}


def table_of(tmp_path: Path, text: str, header: list[str] | None = None, **pixels: Any) -> Configuration:
    (tmp_path / "a.csv").write_text(text)
    source = {"format": "csv", "path": f"{tmp_path}/a.csv", "pixels": PIXELS | pixels}
    return configuration(
        tmp_path,
        source | ({} if header is None else {"header": header}),
        LABEL if "label" in text or header else {},
    )


def test_pixels_are_columns_of_a_csv(tmp_path: Path) -> None:
    text = (
        "label,p0,p1,p2,p3,p4,p5,more\nx,0,1,2,3,4,255,?\ny,0,1,2,3,4,256,?\nz,0,1,2,3,4,5\nw,0,1,2,,4,5,?\n"
    )
    (record,), others = outcomes(table_of(tmp_path, text))
    assert pixels_of(record["image"]).tolist() == [[0, 1, 2], [3, 4, 255]]
    assert [reason for reason, _ in others.values()] == [
        "invalid_pixels",
        "wrong_field_count",
        "invalid_pixels",
    ]
    assert next(raw for _, raw in others.values()) == b"y,0,1,2,3,4,256,?"  # plain numbers: nothing to hide


def test_a_header_is_given_as_a_range(tmp_path: Path) -> None:
    (record,), _ = outcomes(table_of(tmp_path, "9,8,7,6,5,4,x\n", ["p{0..5}", "label"]))
    assert pixels_of(record["image"]).tolist() == [[9, 8, 7], [6, 5, 4]]
    assert record["label"] == "x"


def test_pixels_need_no_label(tmp_path: Path) -> None:
    records, others = outcomes(table_of(tmp_path, "p0,p1,p2,p3,p4,p5\n1,2,3,4,5,6\n"))
    assert len(records) == 1
    assert others == {}


def test_channels_of_a_pixel_stand_together(tmp_path: Path) -> None:
    text = "label,p0,p1,p2,p3,p4,p5\nx,1,2,3,4,5,6\n"
    (record,), _ = outcomes(table_of(tmp_path, text, height=1, width=2, channels=3))
    assert pixels_of(record["image"]).tolist() == [[[1, 2, 3], [4, 5, 6]]]


def test_fewer_columns_than_pixels_are_refused(tmp_path: Path) -> None:
    records, others = outcomes(table_of(tmp_path, "label,p0,p1,p2,p3,p4\nx,1,2,3,4,5\n"))
    assert records == []
    assert [reason for reason, _ in others.values()] == ["missing_column"]


def test_a_range_that_ends_before_it_begins_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="ends before it begins"):
        table_of(tmp_path, "", ["p{5..0}"])


def test_ids_depend_on_the_source_and_not_on_the_compression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions of zlib compress in different ways."""
    write(tmp_path / "in", cats__a_png=file_of(steps(), "PNG"), cats__b_png=file_of(scene(1), "PNG"))
    config = configuration(tmp_path, columns={"label": "folder"})
    before, _ = outcomes(config)
    monkeypatch.setattr(decoding, "_png", lambda image: file_of(image, "PNG", compress_level=9))
    after, _ = outcomes(config)
    assert [row["record_id"] for row in after] == [row["record_id"] for row in before]
    assert [row["image"] for row in after] != [row["image"] for row in before]
    assert before[0]["record_id"] != before[1]["record_id"]


def test_the_quarantine_has_no_image_but_its_hash(tmp_path: Path) -> None:
    """A picture of no use may tell where it was taken all the same."""
    jpeg = file_of(scene(1, 300, 200), "JPEG", exif=exif(gps=True, marker=MARKER))
    cut = jpeg[: len(jpeg) // 2]
    assert MARKER in cut
    write(tmp_path / "in", cats__a_jpg=cut, cats__b_jpg=cut + b"x")
    _, others = outcomes(configuration(tmp_path, columns={"label": "folder"}))
    raws = [raw.decode() for _, raw in others.values()]
    assert [re.sub(r"[0-9a-f]{32}", "#", raw) for raw in raws] == [
        json.dumps(
            {"image": f"(image of {len(cut) + more:,} bytes, SHA-256 #…)", "folder": "cats"},
            ensure_ascii=False,
        )
        for more in (0, 1)
    ]
    assert raws[0] != raws[1]


def test_the_erasure_of_a_picture_is_not_that_of_its_folder(tmp_path: Path) -> None:
    write(
        tmp_path / "in",
        cats__a_jpg=b"no image",
        cats__b_jpg=b"none as well",
        cats__c_png=file_of(steps(), "PNG"),
    )
    config = configuration(tmp_path, columns={"label": "folder"})
    raw = outcomes(config)[1]["cats/a.jpg:0"][1]
    tombstones = Tombstones(raws=frozenset([raw_sha256(raw)]))
    reasons = {
        row["source_path"]: row["reason"]
        for batch in Reader(config, tombstones=tombstones).batches(0, list_pieces(config))
        for row in batch.to_pylist()
        if row["kind"] == QUARANTINE
    }
    assert reasons == {"cats/a.jpg": "forgotten", "cats/b.jpg": "invalid_image"}


def test_a_damaged_line_is_quarantined_without_its_image(tmp_path: Path) -> None:
    """Whether its base64 is whole, has escapes of JSON in it, or stands in a column that nobody reads."""
    jpeg = base64_of(file_of(steps(), "JPEG", exif=exif(gps=True, marker=MARKER)))
    escaped = jpeg.replace("/", "\\/").replace("A", "\\u0041")
    lines = [f'{{"image": "{jpeg}", "label": "x"', f'{{"label": "x", "image": "{escaped}', jpeg]
    lines.append(json.dumps({"image": None, "label": "x", "thumbnail": jpeg}))
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    config = configuration(tmp_path, {"format": "jsonl", "path": f"{tmp_path}/a.jsonl"}, LABEL)
    records, others = outcomes(config)
    assert records == []
    assert [reason for reason, _ in others.values()] == [
        "invalid_json",
        "invalid_json",
        "invalid_json",
        "null_value",
    ]
    for _, raw in others.values():
        assert max((len(run) for run in re.findall(rb"[A-Za-z0-9+/\\]+", raw)), default=0) < 40


def test_ids_and_paths_stay_in_the_quarantine() -> None:
    kept = b'{"id": "' + b"0123456789abcdef" * 4 + b'", "path": "' + b"folder/" * 20 + b'"}'
    assert without_base64(kept) == kept
    runs = [without_base64(b'"' + letters * 70 + b'"') for letters in (b"QUJD", b"QUJE")]
    assert all(run.startswith(b'"(image of 280 bytes, SHA-256 ') for run in runs)
    assert runs[0] != runs[1]
    lines = b"\\r\\n".join([b"QUJD" * 9] * 12)
    assert b"QUJD" not in without_base64(b'"' + lines + b'"')
