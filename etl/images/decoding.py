"""Image files into plain 8-bit pixels, by Pillow, within limits.

Pixels are gray or RGB, as they are to be seen: turned as the EXIF orientation says, without palette, on white where
they are transparent, the first frame of several, 16 bits scaled to 8, CMYK and YCbCr as RGB. Tables hold them as PNG
and nothing else of the file: EXIF, positions and comments are personal data. What was left out or changed is told by
name, so that reports can count it.
"""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageChops, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF")
Image.MAX_IMAGE_PIXELS = None  # the configured limit is checked before anything is decoded
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zlib.error,
)
"""Errors with which Pillow's parsers meets files that are damaged or none of theirs; no other raises one of its own."""
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")
TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
COMMENTS = ("comment", "Comment", "Description", "Author", "Software", "Copyright", "Title")
_DESCRIBING = frozenset({0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298, 0x8769})
"""EXIF tags of the image's origin, which a TIFF has among those of its layout."""
_IPTC = frozenset({0x83BB, 0x8649})
"""Tags of a TIFF with the blocks of IPTC and Photoshop."""
_TILE = (0x0142, 0x0143)
"""Tags of a TIFF with the width and height of its tiles."""
MOST_SCANS = 20
"""Scans of a JPEG over as many pixels as are allowed; of a smaller image, accordingly more. A usual one has up to 12,
but each scan may be a few bytes and costs as much time as the image has pixels.
"""
_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
"""Marker of a JPEG that is not part of the pixels of a scan (ITU-T T.81, B.1.1.2)."""
_CHUNK = 1 << 20
"""Pixels that are scaled from 16 bits at a time."""
_LEVELS = {str(level): level for level in range(256)}


class Pixels(NamedTuple):
    """Pixels of an image as a source writes them: decimal numbers, row by row, the channels of a pixel together."""

    values: Sequence[str]
    height: int
    width: int
    channels: int


class Refused(NamedTuple):
    """Reason why there is no image: a short name, and what follows the name of the column in a sentence."""

    reason: str
    detail: str


class Decoded(NamedTuple):
    """Image as tables hold it."""

    png: bytes
    effects: tuple[str, ...]
    """Names of what was left out (`exif`, `gps` …) or changed (`orientation`, `cmyk` …)."""


def of_pixels(value: Pixels) -> Decoded | Refused:
    """Return the image of pixels; the reason of a refusal is `invalid_pixels`."""
    levels = [_LEVELS.get(each.strip(), -1) for each in value.values]
    if -1 in levels:
        wrong = levels.index(-1)
        return Refused(
            "invalid_pixels", f"has a pixel, number {wrong:,}, that is no whole number from 0 to 255"
        )
    pixels = np.array(levels, dtype=np.uint8).reshape(value.height, value.width, value.channels)
    image = Image.fromarray(pixels[..., 0] if value.channels == 1 else pixels)
    return Decoded(_png(_gray_where_gray(image)), ())


def of_file(raw: bytes, most_pixels: int) -> Decoded | Refused:
    """Return the image of a file's bytes, of at most so many pixels.

    The reason of a refusal is `invalid_image`, `truncated_image`, `too_many_pixels` or `unsupported_image`. Memory is
    at most 16 bytes a pixel and a few times the file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged metadata, which are not passed on
        return _of_file(raw, most_pixels)


def _of_file(raw: bytes, most_pixels: int) -> Decoded | Refused:
    try:
        image = Image.open(io.BytesIO(raw), formats=FORMATS)
    except DAMAGE:
        return Refused("invalid_image", f"is not an image of the formats {', '.join(FORMATS)}")
    with image:
        try:
            excess = _excess(image, raw, most_pixels)
            if excess is not None:
                return Refused("too_many_pixels", excess)
            if image.format == "PNG" and not _is_intact(raw):
                return Refused("invalid_image", "is a PNG whose checksums are wrong")
            # Pillow turns a TIFF where it loads it. All others are loaded first: to ask a PNG for its EXIF data loads
            # it as well, and what fails then would go unnoticed.
            turned = image.format == "TIFF" and _is_turned(image)
            image.load()
            turned = turned or _is_turned(image)
            effects = [*_metadata(image, raw), *(["orientation"] if turned else [])]
            upright = ImageOps.exif_transpose(image) if turned else image
            plain, changed = _plain(upright)
        except DAMAGE as error:
            if any(
                word in str(error).lower() for word in ("truncated", "incomplete", "too few", "end of file")
            ):
                return Refused("truncated_image", f"is an image of {image.format} that ends too early")
            return Refused("invalid_image", f"is a damaged image of {image.format}")
    if plain is None:
        return Refused(
            "unsupported_image", f"is an image of {image.format} with pixels of the type {image.mode}"
        )
    return Decoded(_png(plain), tuple(dict.fromkeys([*effects, *changed])))


def _excess(image: Image.Image, raw: bytes, most_pixels: int) -> str | None:
    """Return what is too much in an opened image, as the detail of a refusal; None where nothing is."""
    width, height = image.size
    if width * height > most_pixels:
        return f"is an image of {width:,} × {height:,} pixels, above feature.max_pixels"
    if image.format == "TIFF":
        across, down = (image.tag_v2.get(tag, 1) for tag in _TILE)  # type: ignore[attr-defined]
        # The last tiles reach beyond the image, and are decoded whole.
        if -(-width // across) * across * (-(-height // down) * down) > most_pixels:
            return f"is an image in tiles of {across:,} × {down:,} pixels, above feature.max_pixels"
    if image.format in ("JPEG", "MPO") and (scans := _scans(raw)) * width * height > MOST_SCANS * most_pixels:
        return (
            f"has {scans:,} scans over {width:,} × {height:,} pixels, more than {MOST_SCANS} times "
            "feature.max_pixels in all"
        )
    return None


def _scans(raw: bytes) -> int:
    """Return the number of scans of a JPEG up to its end."""
    scans, place = 0, 0
    while (marker := _JPEG_MARKER.search(raw, place)) is not None:
        kind, place = marker[0][-1], marker.end()
        if kind == 0xD9:
            break
        if kind in (0x01, 0xD8):  # the markers without a segment
            continue
        scans += kind == 0xDA
        place += int.from_bytes(raw[place : place + 2])
    return scans


def _is_intact(raw: bytes) -> bool:
    """Return False where a chunk of a PNG that its pixels depend on has not its CRC, which Pillow does not look at."""
    place, view = 8, memoryview(raw)
    while place + 12 <= len(raw):
        end = place + 8 + int.from_bytes(view[place : place + 4])
        name = raw[place + 4 : place + 8]
        if name in (b"IDAT", b"PLTE", b"tRNS") and end + 4 <= len(raw):
            if zlib.crc32(view[place + 4 : end]) != int.from_bytes(view[end : end + 4]):
                return False
        elif name == b"IEND":
            break
        place = end + 4
    return True


def _metadata(image: Image.Image, raw: bytes) -> Iterator[str]:
    """Yield the kinds of metadata of a file, none of which is passed on."""
    info = image.info
    if getattr(image, "is_animated", False):  # n_frames would read all frames of a GIF
        yield "animation"
    if (
        image.format == "PNG" and raw[24:25] == b"\x10"
    ):  # Pillow takes the upper 8 bits where there are colours
        yield "sixteen_bits"
    try:
        exif = image.getexif()
        tags = set(exif)  # and no values, of which there may be many
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo) if ExifTags.IFD.GPSInfo in tags else {}
    except DAMAGE:  # damaged metadata of an image that is whole
        tags, gps = set(), {}
    if info.get("exif") or _DESCRIBING & tags:
        yield "exif"
    if gps:
        yield "gps"
    if any(info.get(key) for key in COMMENTS) or getattr(image, "text", None) or 0x010E in tags:
        yield "comment"
    if any("xmp" in str(key).lower() for key in info) or "XMP" in str(info.get("extension")):
        yield "xmp"
    if "photoshop" in info or _IPTC & tags:
        yield "iptc"
    if info.get("icc_profile"):
        yield "colour_profile"


def _is_turned(image: Image.Image) -> bool:
    """Return True where the EXIF orientation says how to turn the image."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
    except DAMAGE:  # which is no reason to do without the image
        return False


def _plain(image: Image.Image) -> tuple[Image.Image | None, tuple[str, ...]]:
    """Return the image as gray or RGB of 8 bits, and what was changed; None: not supported."""
    mode = image.mode
    if mode in SIXTEEN_BITS:
        clear = image.info.get("transparency")
        return _of_sixteen_bits(image, clear), ("sixteen_bits", *(() if clear is None else ("alpha",)))
    if mode in TRANSPARENT or "transparency" in image.info:
        changed = ("palette", "alpha") if mode in ("P", "PA") else ("alpha",)
        layer = image if mode == "RGBA" else image.convert("RGBA")
        seen = Image.new("RGB", layer.size, "white")
        seen.paste(layer, mask=layer)
        return _gray_where_gray(seen), changed
    if mode in ("1", "L"):
        return image.convert("L"), ()
    if mode == "RGB":
        return _gray_where_gray(image), ()
    if mode in ("P", "CMYK", "YCbCr", "HSV", "RGBX"):
        named = {"P": "palette", "CMYK": "cmyk"}.get(mode)
        return _gray_where_gray(image.convert("RGB")), () if named is None else (named,)
    return None, ()


def _of_sixteen_bits(image: Image.Image, clear: object) -> Image.Image | None:
    """Return an image of 16 bits with 8, the level `clear` as white; None where its pixels have more."""
    found = np.empty((image.height, image.width), dtype=np.uint8)
    rows = max(1, _CHUNK // image.width)
    for top in range(0, image.height, rows):
        part = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
        if np.min(part) < 0 or np.max(part) > 0xFFFF:
            return None
        # Rounded, since 65,535 stands for 255.
        found[top : top + rows] = np.where(part == clear, 255, (part.astype(np.uint32) + 128) // 257)
    return Image.fromarray(found)


def _gray_where_gray(image: Image.Image) -> Image.Image:
    """Return a gray image for an RGB one without colours, so that both are the same image."""
    if image.mode == "L":
        return image
    red = image.getchannel("R")
    if any(ImageChops.difference(red, image.getchannel(name)).getbbox() for name in "GB"):
        return image
    return red


def _png(image: Image.Image) -> bytes:
    """Return the PNG of a gray or RGB image, with nothing but its pixels."""
    image.info = {}  # of which Pillow would write some
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
