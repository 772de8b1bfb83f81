"""Hostile image files, all of them generated: bombs, files that are none, damaged ones, and whole ones among them."""

import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.etl.images.pictures import (
    MARKER,
    WITH_METADATA,
    chunk,
    exif,
    file_of,
    jpeg_with,
    png_with,
    scene,
    tiff,
)


def bombs() -> dict[str, bytes]:
    """Return small files that would unfold to gigabytes, or take minutes."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    huge_png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    gif = bytearray(file_of(Image.new("L", (1, 1)), "GIF"))
    gif[6:10] = b"\xff\xff\xff\xff"
    tags = {256: (4, 1, 64), 257: (4, 1, 64), 258: (3, 1, 8), 259: (3, 1, 8), 262: (3, 1, 1), 277: (3, 1, 1)}
    tile = zlib.compress(bytes(1 << 20))
    tiled = tags | {322: (4, 1, 30_000), 323: (4, 1, 30_000), 324: (4, 1, 0), 325: (4, 1, len(tile))}
    tiled[324] = (4, 1, 14 + 12 * len(tiled))
    flat = tags | {256: (4, 1, 1), 257: (4, 1, 1000), 322: (4, 1, 900_000), 323: (4, 1, 1)}
    scans = file_of(scene(0, 300, 300), "JPEG", progressive=True)
    last = scans[scans.rindex(b"\xff\xc4") : -2]
    return {
        "a PNG": huge_png,
        "a GIF": bytes(gif),
        "a TIFF": tiff(tags | {256: (4, 1, 1 << 20), 257: (4, 1, 1 << 20)}),
        "a TIFF of one large tile": tiff(tiled, tile),
        "a TIFF whose tiles reach far beyond it": tiff(flat),
        "a JPEG of a thousand scans": scans[:-2] + last * 1000 + scans[-2:],
    }


def mutated(raw: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """Return a file with a few bytes altered, exchanged, removed, inserted, or taken from another file."""
    changed = bytearray(raw)
    for _ in range(draw.choice([1, 1, 2, 4, 16])):
        place = draw.randrange(min(len(changed), draw.choice([30, 200, len(changed)])))
        match draw.randrange(7):
            case 0:
                changed[place] = draw.randrange(256)
            case 1:
                del changed[max(place, 4) :]
            case 2:
                other = draw.randrange(len(changed))
                changed[place], changed[other] = changed[other], changed[place]
            case 3:
                changed[place:place] = draw.randbytes(draw.randrange(1, 20))
            case 4:
                del changed[place : place + draw.randrange(1, 40)]
            case 5:
                changed[place : place + 4] = draw.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"])
            case 6:
                other_file = draw.choice(others)
                begin = draw.randrange(len(other_file))
                changed[place:place] = other_file[begin : begin + 200]
        if len(changed) < 4:
            break
    return bytes(changed)


def encodings() -> list[bytes]:
    """Return files of all formats and kinds of pixels."""
    image = scene(5)
    found = [file_of(image, kind) for kind in ("PNG", "JPEG", "WEBP", "TIFF")]
    found += [file_of(image.convert(mode), "PNG") for mode in ("1", "LA", "RGBA", "I;16")]
    found += [file_of(image.quantize(16), kind) for kind in ("PNG", "GIF")]
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "zstd"):
        found.append(file_of(image, "TIFF", compression=compression))
    found.append(file_of(image.convert("1"), "TIFF", compression="group4"))
    found += [file_of(image.convert(mode), "TIFF") for mode in ("CMYK", "LAB", "F", "YCbCr")]
    found.append(file_of(image.convert("CMYK"), "JPEG"))
    found.append(file_of(image, "JPEG", progressive=True, exif=exif(6, gps=True)))
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        found.append(file_of(image, kind, save_all=True, append_images=[image.rotate(90)] * 3))
    return found + [make(5) for make, _ in WITH_METADATA.values()]


class Kind(NamedTuple):
    """How a kind of files is made, and what it may be refused for (None: it is decoded)."""

    make: Callable[[random.Random], bytes]
    reasons: frozenset[str | None]


DAMAGED = frozenset({"invalid_image", "truncated_image"})
ANY = DAMAGED | {None, "too_many_pixels", "unsupported_image"}


def _kinds() -> dict[str, Kind]:
    files, large = encodings(), bombs()
    of = {kind: file_of(scene(7, 120, 80), kind) for kind in ("PNG", "JPEG", "WEBP", "TIFF")}
    gif = file_of(scene(7, 120, 80).quantize(64), "GIF")
    wide = Image.fromarray(np.arange(9600, dtype=np.uint16).reshape(80, 120))

    def any_of(draw: random.Random) -> Image.Image:
        return scene(draw.randrange(10**6), draw.randrange(1, 200), draw.randrange(1, 200))

    def cut(raw: bytes, draw: random.Random) -> bytes:
        return raw[: draw.randrange(len(raw) // 4, len(raw) * 3 // 4)]

    def other_size(draw: random.Random) -> bytes:
        header = struct.pack(">IIBBBBB", draw.randrange(400), draw.randrange(400), 8, 2, 0, 0, 0)
        return of["PNG"][:8] + chunk(b"IHDR", header) + of["PNG"][33:]

    refused = frozenset({"too_many_pixels"})
    return {
        "PNG": Kind(lambda draw: file_of(any_of(draw), "PNG"), frozenset([None])),
        "JPEG, progressive": Kind(
            lambda draw: file_of(any_of(draw), "JPEG", progressive=True), frozenset([None])
        ),
        "WebP": Kind(lambda draw: file_of(any_of(draw), "WEBP", quality=40), frozenset([None])),
        "TIFF of 16 bits": Kind(lambda draw: file_of(wide, "TIFF"), frozenset([None])),
        "animated GIF": Kind(
            lambda draw: file_of(any_of(draw), "GIF", save_all=True, append_images=[scene(1)] * 3),
            frozenset([None]),
        ),
        "turned JPEG with a place": Kind(
            lambda draw: file_of(any_of(draw), "JPEG", exif=exif(draw.randrange(1, 9), True, MARKER)),
            frozenset([None]),
        ),
        "metadata": Kind(
            lambda draw: draw.choice(list(WITH_METADATA.values()))[0](draw.randrange(100)), frozenset([None])
        ),
        "empty": Kind(lambda draw: b"", frozenset({"invalid_image"})),
        "text": Kind(lambda draw: b"not a picture " * draw.randrange(1, 50), frozenset({"invalid_image"})),
        "random bytes": Kind(
            lambda draw: draw.randbytes(draw.randrange(1, 3000)), frozenset({"invalid_image"})
        ),
        "signature alone": Kind(lambda draw: draw.choice(files)[: draw.randrange(1, 12)], DAMAGED),
        "PNG cut": Kind(lambda draw: cut(of["PNG"], draw), DAMAGED),
        "JPEG cut": Kind(lambda draw: cut(of["JPEG"], draw), DAMAGED),
        "WebP, TIFF or GIF cut": Kind(
            lambda draw: cut(draw.choice([of["WEBP"], of["TIFF"], gif]), draw), DAMAGED
        ),
        "PNG of another size": Kind(other_size, ANY),
        "bytes altered": Kind(lambda draw: mutated(draw.choice(files), files, draw), ANY),
        "bomb": Kind(lambda draw: draw.choice(list(large.values())), refused),
        "PNG with a bomb of text": Kind(
            lambda draw: png_with(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(4 << 20)))),
            frozenset({"invalid_image"}),
        ),
        "pixels of 32 bits": Kind(
            lambda draw: file_of(Image.fromarray(np.full((3, 3), 1e9, np.float32)), "TIFF"),
            frozenset({"unsupported_image"}),
        ),
        "JPEG with damaged EXIF data": Kind(
            lambda draw: jpeg_with((0xE1, b"Exif\0\0" + draw.randbytes(60))), frozenset([None])
        ),
    }


KINDS = _kinds()


def write(folder: Path, files: int, seed: int) -> dict[str, frozenset[str | None]]:
    """Write so many files, as many of each kind; return the reasons that each may be refused for, by its name."""
    folder.mkdir()
    draw, expected = random.Random(seed), dict[str, frozenset[str | None]]()
    for number in range(files):
        kind = KINDS[list(KINDS)[number % len(KINDS)]]
        # The name says nothing of the content.
        name = f"{number}.{draw.choice(['png', 'jpg', 'gif', 'txt'])}"
        (folder / name).write_bytes(kind.make(draw))
        expected[name] = kind.reasons
    return expected
