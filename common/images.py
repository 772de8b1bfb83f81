"""Images as PNG, for tables, reports and files."""

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

Image8 = npt.NDArray[np.uint8]
SHOWN = 96
"""Pixels of the longer side of a picture in a report."""


def png_of(pixels: Image8) -> bytes:
    """Return the PNG of (height, width) gray or (height, width, 3) RGB pixels; one channel of three axes is gray."""
    buffer = io.BytesIO()
    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    Image.fromarray(np.ascontiguousarray(flat)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def pixels_of(png: bytes) -> Image8:
    """Return the pixels of a PNG that `png_of` made."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        return np.asarray(image)


def data_uri(png: bytes) -> str:
    """Return a PNG as a `data:` URL (RFC 2397)."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def shown(png: bytes) -> bytes:
    """Return a PNG that `png_of` made at the size of a report: at most SHOWN pixels on its longer side."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        if max(image.size) <= SHOWN:
            return png
        image.load()
        image.thumbnail((SHOWN, SHOWN), Image.Resampling.BOX)
        return png_of(np.asarray(image))


def uint8_of(values: npt.NDArray[np.generic]) -> Image8:
    """Return levels of 0 to 255 of any type as uint8, rounded."""
    return np.rint(np.clip(values.astype(np.float64), 0, 255)).astype(np.uint8)
