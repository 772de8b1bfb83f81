"""Generated pictures, and their files with every kind of metadata."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin, TiffImagePlugin

from common.images import pixels_of
from etl.images.decoding import Decoded, Refused, of_file
from etl.sources.files.pieces import list_pieces
from etl.sources.reading import QUARANTINE, RECORD, Reader, column_name
from schemas.config import Configuration

MOST_PIXELS = 1_000_000
MARKER = b"Jane Doe, 52.5200 N 13.4050 E, marker"
"""What metadata hold in these tests; nothing else does."""


def file_of(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return the file of an image, in one of Pillow's formats."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def steps(width: int = 6, height: int = 4) -> Image.Image:
    """Return an RGB image whose pixels all differ, so that a turned one shows."""
    places = np.arange(width * height).reshape(height, width)
    return Image.fromarray(np.stack([places * 8, 255 - places * 5, places * 3], axis=2).astype(np.uint8))


def scene(seed: int, width: int = 48, height: int = 32) -> Image.Image:
    """Return a smooth picture of random colours."""
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )


def decoded(raw: bytes, most_pixels: int = MOST_PIXELS) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Return the pixels of a file that can be decoded, and the effects."""
    found = of_file(raw, most_pixels)
    assert isinstance(found, Decoded), found
    return pixels_of(found.png), found.effects


def refusal(raw: bytes, most_pixels: int = MOST_PIXELS) -> Refused:
    """Return the refusal of a file that cannot be decoded."""
    found = of_file(raw, most_pixels)
    assert isinstance(found, Refused), found
    return found


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_with(*chunks: bytes) -> bytes:
    """Return a PNG with more chunks behind its header."""
    png = file_of(steps(), "PNG")
    return png[:33] + b"".join(chunks) + png[33:]


def jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    """Return a JPEG with more segments, of a marker and its content, behind its first bytes."""
    jpeg = file_of(steps(), "JPEG")
    more = (struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content for marker, content in segments)
    return jpeg[:2] + b"".join(more) + jpeg[2:]


def tiff(tags: dict[int, tuple[int, int, int]], content: bytes = b"") -> bytes:
    """Return a little-endian TIFF of one directory, (type, count, value) by tag, and the content behind it."""
    entries = b"".join(struct.pack("<HHII", tag, *value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + content


def exif(orientation: int | None = None, gps: bool = False, marker: bytes | None = None) -> Image.Exif:
    """Return EXIF data with what is given."""
    found = Image.Exif()
    if orientation is not None:
        found[0x0112] = orientation
    if marker is not None:
        found[0x013B] = marker.decode()  # the artist
    if gps:
        found.get_ifd(0x8825)[0x1B] = marker or b"somewhere"
    return found


def _text_chunks() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", MARKER.decode())
    info.add_text("Comment", MARKER.decode(), zip=True)
    return info


def _xmp() -> bytes:
    return b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + MARKER + b"</x:xmpmeta>"


def _iptc() -> bytes:
    record = b"\x1c\x02\x50" + struct.pack(">H", len(MARKER)) + MARKER
    return b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(record)) + record


def _tiff_tags() -> TiffImagePlugin.ImageFileDirectory_v2:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0x010E] = MARKER.decode()
    tags[0x02BC], tags.tagtype[0x02BC] = _xmp(), 7
    tags[0x83BB], tags.tagtype[0x83BB] = MARKER, 7
    return tags


WITH_METADATA: dict[str, tuple[Callable[[int], bytes], set[str]]] = {
    "EXIF and GPS in a JPEG": (
        lambda seed: file_of(scene(seed), "JPEG", exif=exif(gps=True, marker=MARKER)),
        {"exif", "gps"},
    ),
    "a comment and XMP in a JPEG": (
        lambda seed: file_of(scene(seed), "JPEG", comment=MARKER, xmp=_xmp()),
        {"comment", "xmp"},
    ),
    "IPTC in a JPEG": (lambda seed: jpeg_with((0xED, _iptc())), {"iptc"}),
    "EXIF in a PNG": (
        lambda seed: file_of(scene(seed), "PNG", exif=exif(gps=True, marker=MARKER)),
        {"exif", "gps"},
    ),
    "texts in a PNG": (lambda seed: file_of(scene(seed), "PNG", pnginfo=_text_chunks()), {"comment"}),
    "a profile in a PNG": (
        lambda seed: file_of(scene(seed), "PNG", icc_profile=MARKER),
        {"colour_profile"},
    ),
    "EXIF and XMP in a WebP": (
        lambda seed: file_of(scene(seed), "WEBP", exif=exif(gps=True, marker=MARKER), xmp=_xmp()),
        {"exif", "gps", "xmp"},
    ),
    "tags in a TIFF": (
        lambda seed: file_of(scene(seed), "TIFF", tiffinfo=_tiff_tags()),
        {"exif", "comment", "xmp", "iptc"},
    ),
    "a comment in a GIF": (
        lambda seed: file_of(scene(seed).quantize(32), "GIF", comment=MARKER),
        {"comment", "palette"},
    ),
}
"""Files with the marker in their metadata, by kind, and the effects that tell of it."""


def configuration(
    root: Path, source: dict[str, Any] | None = None, columns: dict[str, str] | None = None, **sections: Any
) -> Configuration:
    """Return a configuration with one feature of images; by default of the files of a folder, without a label."""
    feature = {"name": "image", "column": "image", "encode": "image", "size": 8}
    return Configuration.model_validate(
        {
            "dataset": {"name": "pictures", "root": str(root / "warehouse")},
            "source": [source or {"format": "images", "path": f"{root}/in/**"}],
            "columns": columns or {},
            "feature": [feature | sections.pop("image", {})],
            **sections,
        }
    )


def outcomes(config: Configuration) -> tuple[list[dict[str, Any]], dict[str, tuple[str, bytes]]]:
    """Read the sources of a configuration without Spark.

    Return the records, by the columns of the tables and in the order of their paths, and the reason and raw bytes of
    the quarantined by path and position.
    """
    found, others = list[dict[str, Any]](), dict[str, tuple[str, bytes]]()
    columns = {column_name(place): name for place, name in enumerate(config.table_columns())}
    for batch in Reader(config).batches(0, list_pieces(config)):
        for row in batch.to_pylist():
            if row["kind"] == RECORD:
                found.append({columns.get(name, name): value for name, value in row.items()})
            elif row["kind"] == QUARANTINE:
                others[f"{row['source_path']}:{row['source_position']}"] = row["reason"], row["raw"]
    return sorted(found, key=lambda row: (row["source_path"], row["source_position"])), others
