"""Image files into plain 8-bit pixels, by Pillow, within limits.

Pixels are gray or RGB, as they are to be seen: turned as the EXIF orientation says, without palette, on white where
they are transparent, the first frame of several, 16 bits scaled to 8, CMYK and YCbCr as RGB. Tables hold them as PNG
and nothing else of the file: EXIF, positions and comments are personal data. What was left out or changed is told by
name, so that reports can count it.
"""

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from common.images import Image8, png_of

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
    return Decoded(png_of(pixels[..., 0] if value.channels == 1 else _gray_where_gray(pixels)), ())


def of_file(raw: bytes, most_pixels: int) -> Decoded | Refused:
    """Return the image of a file's bytes, of at most so many pixels.

    The reason of a refusal is `invalid_image`, `truncated_image`, `too_many_pixels` or `unsupported_image`.
    """
    try:
        image = Image.open(io.BytesIO(raw), formats=FORMATS)
    except DAMAGE:
        return Refused("invalid_image", f"is not an image of the formats {', '.join(FORMATS)}")
    with image:
        width, height = image.size
        if width * height > most_pixels:
            return Refused(
                "too_many_pixels", f"is an image of {width:,} × {height:,} pixels, above feature.max_pixels"
            )
        try:
            image.load()
            effects = tuple(dict.fromkeys(_metadata(image)))
            upright, turned = _upright(image)
            pixels, changed = _plain(upright)
        except DAMAGE as error:
            if any(
                word in str(error).lower() for word in ("truncated", "incomplete", "too few", "end of file")
            ):
                return Refused("truncated_image", f"is an image of {image.format} that ends too early")
            return Refused("invalid_image", f"is a damaged image of {image.format}")
    if pixels is None:
        return Refused(
            "unsupported_image", f"is an image of {image.format} with pixels of the type {image.mode}"
        )
    return Decoded(png_of(pixels), (*effects, *turned, *changed))


def _metadata(image: Image.Image) -> Iterator[str]:
    """Yield the kinds of metadata of a file, none of which is passed on."""
    info = image.info
    if getattr(image, "n_frames", 1) > 1:
        yield "animation"
    try:
        exif = image.getexif()
        tags = dict(exif)
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo) if ExifTags.IFD.GPSInfo in exif else {}
    except DAMAGE:  # damaged metadata of an image that is whole
        tags, gps = {0: None}, {}
    if info.get("exif") or _DESCRIBING & tags.keys():
        yield "exif"
    if gps:
        yield "gps"
    if any(info.get(key) for key in COMMENTS) or getattr(image, "text", None) or 0x010E in tags:
        yield "comment"
    if any("xmp" in str(key).lower() for key in info):
        yield "xmp"
    if "photoshop" in info:
        yield "iptc"
    if info.get("icc_profile"):
        yield "colour_profile"


def _upright(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Return the image turned as its EXIF orientation says; unturned where that cannot be read."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGE:
        return image, ()
    if orientation not in range(2, 9):
        return image, ()
    turned = ImageOps.exif_transpose(image)
    return (image, ()) if turned is None else (turned, ("orientation",))


def _plain(image: Image.Image) -> tuple[Image8 | None, tuple[str, ...]]:
    """Return the pixels, (height, width) gray or (height, width, 3) RGB, and what was changed; None: not supported."""
    mode = image.mode
    if mode in SIXTEEN_BITS:
        wide = np.asarray(image).astype(np.int64)
        if wide.size and (int(np.min(wide)) < 0 or int(np.max(wide)) > 0xFFFF):
            return None, ()
        # Rounded, since 65,535 stands for 255.
        return ((wide + 128) // 257).astype(np.uint8), ("sixteen_bits",)
    if mode in TRANSPARENT or "transparency" in image.info:
        changed = ("palette", "alpha") if mode in ("P", "PA") else ("alpha",)
        layer = image if mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", layer.size, "white")
        white.paste(layer, mask=layer.getchannel("A"))
        return _gray_where_gray(np.asarray(white)), changed
    if mode in ("1", "L"):
        return np.asarray(image.convert("L")), ()
    if mode == "RGB":
        return _gray_where_gray(np.asarray(image)), ()
    if mode in ("P", "CMYK", "YCbCr", "HSV", "RGBX"):
        named = {"P": "palette", "CMYK": "cmyk"}.get(mode)
        return _gray_where_gray(np.asarray(image.convert("RGB"))), () if named is None else (named,)
    return None, ()


def _gray_where_gray(pixels: Image8) -> Image8:
    """Return gray pixels for those of an RGB image without colours, so that both are the same image."""
    first = pixels[..., 0]
    if np.array_equal(first, pixels[..., 1]) and np.array_equal(first, pixels[..., 2]):
        return np.ascontiguousarray(first)
    return pixels
