"""Redaction of records with images for the quarantine, where no image is kept: it may tell its place."""

import hashlib
import re
from collections.abc import Collection, Mapping

from etl.images.decoding import Pixels

_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/\\_=-]{20,}+[\r\n]*+)++")
"""Lines of base64, also of its variant for URLs, with the line breaks and escapes that JSON has in it."""
LEFT_OUT = "(image of "
SMALLEST = 256
"""Characters below which a run is no image in base64, but an id, a path or the like."""


def without_images(values: Mapping[str, object], images: Collection[str]) -> dict[str, object]:
    """Return the columns of a record with the SHA-256 of each image in its place; `images` are their names.

    It tells the records of a folder apart, so that the erasure of one is not that of all.
    """
    return {name: _told(value) if name in images else value for name, value in values.items()}


def _told(value: object) -> object:
    if value is None or isinstance(value, Pixels):
        return value
    return _hashed(
        value.encode("utf-8", "surrogatepass") if isinstance(value, str) else getattr(value, "raw", b"")
    )


def _hashed(raw: bytes) -> str:
    return f"{LEFT_OUT}{len(raw):,} bytes, SHA-256 {hashlib.sha256(raw).hexdigest()[:32]}…)"


def without_base64(raw: bytes) -> bytes:
    """Return the raw bytes of a record that its format refuses, with the SHA-256 of each run that may be an image in
    base64 in its place.
    """
    return _BASE64.sub(lambda run: run[0] if len(run[0]) < SMALLEST else _hashed(run[0]).encode(), raw)
