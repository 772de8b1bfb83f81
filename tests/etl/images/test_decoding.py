"""Image files of all kinds become plain pixels, or are refused with a reason, within limits of pixels and time."""

import io
import random
import struct
import time
import tracemalloc
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from common.images import pixels_of, png_of
from etl.images import decoding
from etl.images.decoding import Decoded, Pixels, Refused, of_file, of_pixels
from tests.etl.images.hostile import bombs, encodings, mutated
from tests.etl.images.pictures import (
    MARKER,
    WITH_METADATA,
    chunk,
    decoded,
    exif,
    file_of,
    jpeg_with,
    png_with,
    refusal,
    scene,
    steps,
)

COLOURS = np.asarray(steps())
GRAY = np.asarray(steps().convert("L"))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "packbits"}),
        ("TIFF", {"big_tiff": True}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_files_without_loss_give_their_pixels(kind: str, options: dict[str, Any]) -> None:
    assert np.array_equal(decoded(file_of(steps(), kind, **options))[0], COLOURS)
    # Where no pixel has a colour, the image is gray, however it is stored.
    gray = file_of(steps().convert("L").convert("RGB"), kind, **options)
    assert np.array_equal(decoded(gray)[0], GRAY)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True, "subsampling": 0}])
def test_files_with_loss_give_nearly_their_pixels(kind: str, options: dict[str, Any]) -> None:
    found, effects = decoded(file_of(scene(1), kind, quality=95, **options))
    assert effects == ()
    assert np.abs(found.astype(int) - np.asarray(scene(1))).mean() < 4


def test_a_gif_gives_its_first_frame() -> None:
    frames = [Image.new("L", (5, 3), level) for level in (40, 80, 120)]
    found, effects = decoded(file_of(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert "animation" in effects
    assert np.array_equal(found, np.full((3, 5), 40))


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_of_several_frames_or_pages_the_first_is_taken(kind: str, options: dict[str, Any]) -> None:
    other = ImageOps.invert(steps())
    found, effects = decoded(file_of(steps(), kind, save_all=True, append_images=[other, other], **options))
    assert effects == ("animation",)
    assert np.array_equal(found, COLOURS)


def turned(orientation: int) -> Image.Image:
    """Return the stored image that the orientation turns into `steps()` (TIFF 6.0, tag 274)."""
    # What the first row and column of the stored image are to the eye, undone.
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # is shown turned clockwise
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return steps() if orientation == 1 else steps().transpose(undo[orientation])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_the_orientation_is_applied(orientation: int, kind: str, options: dict[str, Any]) -> None:
    found, effects = decoded(file_of(turned(orientation), kind, exif=exif(orientation), **options))
    assert np.array_equal(found, COLOURS)
    assert ("orientation" in effects) == (orientation > 1)


def test_the_orientation_of_a_jpeg_is_applied() -> None:
    stored = scene(2).transpose(Image.Transpose.ROTATE_90)
    found, effects = decoded(file_of(stored, "JPEG", quality=95, exif=exif(6)))
    assert "orientation" in effects
    assert np.abs(found.astype(int) - np.asarray(scene(2))).mean() < 4


@pytest.mark.parametrize("wrong", [0, 9, 700])
def test_an_orientation_that_is_none_changes_nothing(wrong: int) -> None:
    found, effects = decoded(file_of(steps(), "PNG", exif=exif(wrong)))
    assert effects == ("exif",)
    assert np.array_equal(found, COLOURS)


def test_damaged_exif_data_do_no_harm() -> None:
    for damaged in (b"Exif\0\0", b"Exif\0\0MM\0*\0\0\xff\xff", b"Exif\0\0" + bytes(range(200))):
        found, _ = decoded(jpeg_with((0xE1, damaged)))
        assert found.shape == COLOURS.shape


WIDE = np.array([[0, 1, 128, 129], [257, 32_768, 65_406, 65_535]], dtype=np.uint16)
NARROW = np.array([[0, 0, 0, 1], [1, 128, 254, 255]], dtype=np.uint8)
"""Those of `WIDE`, divided by 257 and rounded."""


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight(kind: str) -> None:
    found, effects = decoded(file_of(Image.fromarray(WIDE), kind))
    assert effects == ("sixteen_bits",)
    assert np.array_equal(found, NARROW)


def test_sixteen_bits_in_the_other_byte_order_become_eight() -> None:
    tags = {256: (4, 1, 4), 257: (4, 1, 2), 258: (3, 1, 16), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
    tags |= {278: (4, 1, 2), 273: (4, 1, 0), 279: (4, 1, 16)}
    tags[273] = (4, 1, 10 + 12 * len(tags) + 4)
    big = b"MM\0*" + struct.pack(">IH", 8, len(tags))
    for tag, (kind, count, value) in sorted(tags.items()):
        big += struct.pack(">HHI", tag, kind, count) + struct.pack(
            ">HH" if kind == 3 else ">I", *_of(kind, value)
        )
    found, _ = decoded(big + bytes(4) + WIDE.astype(">u2").tobytes())
    assert np.array_equal(found, NARROW)


def _of(kind: int, value: int) -> tuple[int, ...]:
    return (value, 0) if kind == 3 else (value,)


def test_sixteen_bits_of_colours_become_eight() -> None:
    rows = b"".join(b"\0" + np.repeat(row.astype(">u2"), 3).tobytes() for row in WIDE)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 2, 16, 2, 0, 0, 0))
    found, effects = decoded(png + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    assert effects == ("sixteen_bits",)
    assert np.abs(found.astype(int) - NARROW).max() <= 1


def test_a_transparent_level_of_sixteen_bits_is_white() -> None:
    levels = np.array([[0, 1 << 15], [0, 0xFFFF]], dtype=np.uint16)
    stream = io.BytesIO()
    Image.fromarray(levels).save(stream, "PNG", transparency=0)
    pixels, effects = decoded(stream.getvalue())
    assert pixels.tolist() == [[255, 128], [255, 255]]
    assert effects == ("sixteen_bits", "alpha")


def test_more_than_sixteen_bits_are_refused() -> None:
    for pixels in (
        np.array([[0, 70_000]], np.int32),
        np.array([[0, -1]], np.int32),
        np.ones((2, 2), np.float32),
    ):
        assert refusal(file_of(Image.fromarray(pixels), "TIFF")).reason == "unsupported_image"


def test_many_pixels_of_sixteen_bits_are_scaled_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_CHUNK", 7)
    wide = np.random.default_rng(0).integers(0, 65_536, (5, 4), dtype=np.uint16)
    found, _ = decoded(file_of(Image.fromarray(wide), "PNG"))
    assert np.array_equal(found, np.round(wide / 257).astype(np.uint8))


def test_a_palette_gives_its_colours() -> None:
    image = steps().quantize(64)
    for kind in ("PNG", "GIF", "TIFF"):
        found, effects = decoded(file_of(image, kind))
        assert effects == ("palette",)
        assert np.array_equal(found, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_seen_on_white(mode: str) -> None:
    image = steps().convert(mode)
    image.putalpha(Image.fromarray(np.where(np.arange(24).reshape(4, 6) < 12, 0, 255).astype(np.uint8)))
    found, effects = decoded(file_of(image, "PNG"))
    assert effects == ("alpha",)
    opaque = COLOURS if mode == "RGBA" else GRAY
    assert (found[:2] == 255).all()
    assert np.array_equal(found[2:], opaque[2:])


def test_half_transparent_pixels_are_half_white() -> None:
    image = Image.new("RGBA", (1, 1), (0, 100, 200, 128))
    found, _ = decoded(file_of(image, "PNG"))
    assert np.abs(found[0, 0].astype(int) - [127, 177, 227]).max() <= 1


def test_a_transparent_colour_of_a_palette_is_white() -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    for kind in ("PNG", "GIF"):
        found, effects = decoded(file_of(image, kind, transparency=0))
        assert effects == ("palette", "alpha")
        assert found.tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_one_bit_is_black_or_white() -> None:
    image = steps().convert("1")
    for kind, options in (("PNG", {}), ("TIFF", {"compression": "group4"}), ("TIFF", {})):
        found, effects = decoded(file_of(image, kind, **options))
        assert effects == ()
        assert np.array_equal(found, np.asarray(image) * 255)


def test_cmyk_becomes_rgb() -> None:
    image = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    for kind in ("TIFF", "JPEG"):
        found, effects = decoded(file_of(image, kind))
        assert effects == ("cmyk",)
        assert np.abs(found.astype(int) - [255, 0, 0]).max() < 8


def test_ycbcr_becomes_rgb() -> None:
    found, _ = decoded(file_of(Image.new("RGB", (4, 4), (200, 30, 60)).convert("YCbCr"), "TIFF"))
    assert np.abs(found.astype(int) - [200, 30, 60]).max() < 4


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x89PNG",
        b"just a text about pictures",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        bytes(1000),
        file_of(steps(), "BMP"),  # Pillow reads many more formats, whose parsers nobody asked for
        file_of(steps(), "PPM"),
        b"II*\0" + b"\xff" * 8,
        b"RIFF\x10\0\0\0WEBPVP8 ",
    ],
)
def test_what_is_no_image_is_refused(raw: bytes) -> None:
    found = refusal(raw)
    assert found.reason == "invalid_image"
    assert "PNG, JPEG, WEBP, TIFF, GIF" in found.detail or "damaged" in found.detail


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("GIF", {}), ("TIFF", {})],
)
def test_a_file_that_ends_too_early_is_refused(kind: str, options: dict[str, Any]) -> None:
    whole = file_of(scene(3, 200, 150), kind, **options)
    found = refusal(whole[: len(whole) // 2])
    assert found.reason in ("truncated_image", "invalid_image")
    if kind in ("PNG", "JPEG", "GIF"):
        assert found == Refused("truncated_image", f"is an image of {kind} that ends too early")


def test_a_png_with_a_wrong_byte_is_refused() -> None:
    """Pillow itself shows such a file, with other pixels."""
    png = file_of(scene(3), "PNG")
    for place in range(png.index(b"IDAT") + 4, png.index(b"IEND") - 8, 97):
        changed = bytearray(png)
        changed[place] ^= 255
        assert refusal(bytes(changed)) == Refused("invalid_image", "is a PNG whose checksums are wrong")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF"])
def test_too_many_pixels_are_refused_before_they_are_decoded(kind: str) -> None:
    raw = file_of(Image.new("L", (40, 25)), kind)
    assert isinstance(of_file(raw, 1000), Decoded)
    assert refusal(raw, 999) == Refused(
        "too_many_pixels", "is an image of 40 × 25 pixels, above feature.max_pixels"
    )


@pytest.mark.parametrize("name", bombs())
def test_bombs_are_refused_at_once(name: str) -> None:
    raw = bombs()[name]
    tracemalloc.start()
    began = time.process_time()
    found = refusal(raw)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.reason == "too_many_pixels"
    assert time.process_time() - began < 1
    assert most < 20 << 20


def test_a_usual_number_of_scans_is_decoded() -> None:
    progressive = file_of(scene(0, 300, 300), "JPEG", progressive=True)
    # Markers in a thumbnail, and behind the end of the image, are no scans of it.
    whole = jpeg_with((0xE1, b"\xff\xda" * 1000)) + b"\xff\xda" * 1000
    assert isinstance(of_file(progressive, 300 * 300), Decoded)
    assert isinstance(of_file(whole, COLOURS.size), Decoded)


def test_texts_of_a_png_that_unfold_to_much_are_refused() -> None:
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(8 << 20)))
    profile = chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(8 << 20)))
    for hostile in (bomb, profile):
        began = time.process_time()
        assert refusal(png_with(hostile)).reason == "invalid_image"
        assert time.process_time() - began < 1
    long = chunk(b"tEXt", b"Comment\0" + b"x" * 900_000)
    assert decoded(png_with(long))[1] == ("comment",)


def test_frames_are_not_counted() -> None:
    """Looking through all frames of a GIF would take 10 s for each 20 MB."""
    gif = file_of(Image.new("L", (1, 1)), "GIF")
    frame = gif[gif.index(b",") : -1]
    began = time.process_time()
    _, effects = decoded(gif[:-1] + frame * 300_000 + b";")
    assert "animation" in effects
    assert time.process_time() - began < 1


@pytest.mark.parametrize("name", WITH_METADATA)
def test_metadata_are_left_out_and_told(name: str) -> None:
    make, told = WITH_METADATA[name]
    raw = make(1)
    assert MARKER in raw or zlib.compress(MARKER) in raw or b"iCCP" in raw
    found = of_file(raw, 10_000)
    assert isinstance(found, Decoded)
    assert set(found.effects) == told
    plain = found.png
    chunks, place = [], 8
    while place < len(plain):
        chunks.append(plain[place + 4 : place + 8])
        place += 12 + int.from_bytes(plain[place : place + 4])
    assert set(chunks) == {b"IHDR", b"IDAT", b"IEND"}
    # The pixels are those of the same image without metadata.
    assert found.png == png_of(pixels_of(plain))


def test_images_are_equal_whatever_holds_them() -> None:
    """Bytes of a table depend on pixels alone, so that copies in two formats are exact duplicates."""
    kinds = ("PNG", "TIFF", "GIF")
    assert len({of_file(file_of(steps().convert("L"), kind), 100).png for kind in kinds}) == 1  # type: ignore[union-attr]


def test_pixels_become_an_image() -> None:
    found = of_pixels(Pixels([str(value) for value in COLOURS.ravel()], 4, 6, 3))
    assert isinstance(found, Decoded)
    assert np.array_equal(pixels_of(found.png), COLOURS)
    gray = of_pixels(Pixels([f" {value} " for value in GRAY.ravel()], 4, 6, 1))
    assert isinstance(gray, Decoded)
    assert np.array_equal(pixels_of(gray.png), GRAY)


@pytest.mark.parametrize("wrong", ["256", "-1", "1.5", "", "x", "0x1", "٣"])
def test_numbers_that_are_no_pixels_are_refused(wrong: str) -> None:
    values = [str(value) for value in GRAY.ravel()]
    values[7] = wrong
    assert of_pixels(Pixels(values, 4, 6, 1)) == Refused(
        "invalid_pixels", "has a pixel, number 7, that is no whole number from 0 to 255"
    )


@pytest.mark.parametrize("count", [1500, pytest.param(60_000, marks=pytest.mark.thorough)])
def test_altered_files_are_decoded_or_refused(count: int) -> None:
    """No error of Pillow escapes, whatever bytes it meets, and none takes long."""
    draw, files = random.Random(count), encodings()
    reasons = dict[str, int]()
    slowest = 0.0
    for _ in range(count):
        raw = mutated(draw.choice(files), files, draw)
        began = time.process_time()
        found = of_file(raw, 100_000)
        slowest = max(slowest, time.process_time() - began)
        reason = "decoded"
        if isinstance(found, Refused):
            reason = found.reason
        else:
            pixels: npt.NDArray[np.uint8] = pixels_of(found.png)
            assert pixels.dtype == np.uint8
            assert 0 < pixels.shape[0] * pixels.shape[1] <= 100_000
        reasons[reason] = reasons.get(reason, 0) + 1
    assert set(reasons) == {
        "decoded",
        "invalid_image",
        "truncated_image",
        "too_many_pixels",
        "unsupported_image",
    }
    assert slowest < 2
