"""Images."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from common.sections import Positive
from schemas.features import FeatureSettings

Side = Annotated[int, Field(ge=1, le=4096)]


class ImageFeature(FeatureSettings):
    """`[[feature]]` of images: pixels of one size, as bytes; models scale them by what the training split taught."""

    compared_as: ClassVar[str | None] = "images"
    encode: Literal["image"]
    size: Side | Annotated[list[Side], Field(min_length=2, max_length=2)]
    """Side in pixels, or [height, width]."""
    channels: Literal[1, 3] = 3
    """1: gray (ITU-R BT.601 luma); 3: RGB."""
    resize: Literal["fit", "fill", "stretch"] = "fit"
    """`fit`: the whole image, with black beside it; `fill`: the middle of the image; `stretch`: regardless of its
    proportions.
    """
    max_pixels: Positive = 50_000_000
    """Pixels of an image above which it is quarantined without being decoded, which takes up to 16 bytes a pixel."""

    @property
    def height(self) -> int:
        return self.size if isinstance(self.size, int) else self.size[0]

    @property
    def width(self) -> int:
        return self.size if isinstance(self.size, int) else self.size[1]

    def decoding(self) -> dict[str, Any]:
        """Return the keys that `ingest` uses."""
        return {"column": self.column, "max_pixels": self.max_pixels}
