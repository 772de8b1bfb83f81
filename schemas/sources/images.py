"""Image files."""

from typing import Literal

from common.sections import NonEmpty
from schemas.sources import SourceSettings


class Images(SourceSettings):
    """`[[source]] format = "images"`: one record a file, of PNG, JPEG, WebP, TIFF or GIF by its content."""

    format: Literal["images"]
    image: NonEmpty = "image"
    """Name of the column for the image."""
    folder: NonEmpty = "folder"
    """Name of the column for the name of the folder that holds the file, often its class."""
    labels: NonEmpty | None = None
    """CSV with a header line, beside the files: its row for a file gives that record more columns."""
    file: NonEmpty = "file"
    """Column of `labels` with the path of a file, relative to the folder of `labels`."""
