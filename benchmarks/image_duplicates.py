"""Copies of images that are found, and look-alikes that are not: `python -m benchmarks.image_duplicates`.

Pictures are generated: objects, text and texture on a gradient, 64 to 480 pixels a side. Each has copies of all kinds
and look-alikes that show something else. Prints a row a kind: the share found by a key in common and the distance, and
the share with a key in common.
"""

import argparse
import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from common.images import pixels_of
from etl.images import perceptual
from etl.images.decoding import Decoded, of_file
from schemas.settings import Deduplicate

Random = np.random.Generator
Change = Callable[[Image.Image, Random], Image.Image | bytes]


class Scene(NamedTuple):
    """What a picture shows."""

    width: int
    height: int
    seed: int
    objects: list[tuple[str, tuple[float, float], tuple[float, float], tuple[int, int, int]]]
    """Kind, middle and size in shares of the sides, colour."""
    text: str

    @classmethod
    def drawn(cls, seed: int) -> "Scene":
        random = np.random.default_rng(seed)
        width, height = (int(side) for side in np.exp(random.uniform(np.log(64), np.log(480), 2)))
        objects = []
        for _ in range(int(random.integers(3, 8))):
            middle, size = random.uniform(0.1, 0.9, 2), random.uniform(0.12, 0.4, 2)
            colour = tuple(int(level) for level in random.integers(0, 256, 3))
            kind = ("ellipse", "rectangle")[int(random.integers(2))]
            objects.append((kind, tuple(middle), tuple(size), colour))
        text = "".join(random.choice(list("ABCDEFGHKLMNPRSTUVXYZ"), 6))
        return cls(width, height, seed, objects, text)  # type: ignore[arg-type]

    @property
    def letters(self) -> int:
        """Height of the letters in pixels."""
        return min(self.width // 5, self.height // 3)

    def picture(self) -> Image.Image:
        random = np.random.default_rng([self.seed, 1])
        corners = Image.fromarray(random.integers(0, 256, (2, 2, 3), dtype=np.uint8))
        image = corners.resize((self.width, self.height), Image.Resampling.BILINEAR)
        draw = ImageDraw.Draw(image)
        for kind, middle, size, colour in self.objects:
            sides = (self.width, self.height)
            box = [
                int((m + sign * s / 2) * side)
                for sign in (-1, 1)
                for m, s, side in zip(middle, size, sides, strict=True)
            ]
            (draw.ellipse if kind == "ellipse" else draw.rectangle)(box, fill=colour)
        draw.text(
            (self.width * 0.1, self.height * 0.4),
            self.text,
            fill="white",
            font_size=max(8, self.letters),
            stroke_width=1,
            stroke_fill="black",
        )
        grain = random.normal(0, 6, (self.height, self.width, 1))
        return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def file_of(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def resized(image: Image.Image, factor: float) -> Image.Image:
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS)


def cropped(image: Image.Image, random: Random, share: float) -> Image.Image:
    """Cut a share of both sides off, at places by chance."""
    width, height = round(image.width * (1 - share)), round(image.height * (1 - share))
    left = int(random.integers(0, image.width - width + 1))
    top = int(random.integers(0, image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def noisy(image: Image.Image, random: Random) -> Image.Image:
    found = np.asarray(image) + random.normal(0, 12, np.asarray(image).shape)
    return Image.fromarray(np.clip(found, 0, 255).astype(np.uint8))


COPIES: dict[str, Change] = {
    "JPEG, quality 95 to 50": lambda image, random: file_of(
        image, "JPEG", quality=int(random.integers(50, 96))
    ),
    "WebP, quality 95 to 50": lambda image, random: file_of(
        image, "WEBP", quality=int(random.integers(50, 96))
    ),
    "resized, 0.5 to 2 times": lambda image, random: resized(image, random.uniform(0.5, 2)),
    "other proportions, up to 1.3": lambda image, random: image.resize(
        (max(1, int(image.width * random.uniform(1, 1.3))), image.height)
    ),
    "turned by 90, 180 or 270 degrees": lambda image, random: image.transpose(
        Image.Transpose(int(random.integers(2, 5)))
    ),
    "mirrored": lambda image, random: ImageOps.mirror(image),
    "turned, resized and as JPEG": lambda image, random: file_of(
        resized(image.transpose(Image.Transpose.ROTATE_90), random.uniform(0.5, 2)), "JPEG", quality=70
    ),
    "brighter or darker by up to 10%": lambda image, random: ImageEnhance.Brightness(image).enhance(
        random.uniform(0.9, 1.1)
    ),
    "brighter or darker by up to 30%": lambda image, random: ImageEnhance.Brightness(image).enhance(
        random.uniform(0.7, 1.3)
    ),
    "less contrast, 0.7": lambda image, random: ImageEnhance.Contrast(image).enhance(0.7),
    "gray": lambda image, random: image.convert("L"),
    "blurred, radius of 1 pixel": lambda image, random: image.filter(ImageFilter.GaussianBlur(1)),
    "noise of 12 levels": noisy,
    "cropped by 1%": lambda image, random: cropped(image, random, 0.01),
    "cropped by 2%": lambda image, random: cropped(image, random, 0.02),
    "cropped by 5%": lambda image, random: cropped(image, random, 0.05),
    "cropped by 10%": lambda image, random: cropped(image, random, 0.1),
    "turned by 2 degrees": lambda image, random: image.rotate(2, Image.Resampling.BICUBIC),
}
"""Changes that leave a picture the same to the eye."""


def moved(scene: Scene, random: Random) -> Scene:
    """Return the scene with its topmost object at another place, which is far enough to be seen."""
    kind, middle, size, colour = scene.objects[-1]
    other = middle
    while max(abs(a - b) for a, b in zip(other, middle, strict=True)) < 0.25:
        other = (float(random.uniform(0.1, 0.9)), float(random.uniform(0.1, 0.9)))
    return scene._replace(objects=[*scene.objects[:-1], (kind, other, size, colour)])


def without(scene: Scene, random: Random) -> Scene:
    return scene._replace(objects=scene.objects[:-1])


def recoloured(scene: Scene, random: Random) -> Scene:
    """Return the scene with the colours of all objects turned."""
    return scene._replace(objects=[(k, m, s, (c[1], c[2], c[0])) for k, m, s, c in scene.objects])


def renamed(scene: Scene, random: Random) -> Scene:
    """Return the scene with another text."""
    return scene._replace(text="".join(random.choice(list("abcdefghkmnpqrstuvxyz"), 6)))


LARGE, SMALL = "another text, an eighth of the longer side or more", "another text, less than that"
LOOK_ALIKES: dict[str, Callable[[Scene, Random], Scene]] = {
    "an object at another place": moved,
    "an object less": without,
    "objects in other colours": recoloured,
    LARGE: renamed,
    SMALL: renamed,
    "another picture of the series (noise)": lambda scene, random: scene._replace(objects=[], text=""),
}
"""Changes that make another picture of it."""


SEEN = 0.02
"""Share of the pixels that a look-alike changes by more than 40 levels: of less, nobody could say which is which."""


def is_seen(first: Image.Image, second: Image.Image) -> bool:
    apart = np.abs(np.asarray(first).astype(int) - np.asarray(second))
    return bool((apart.max(axis=2) > 40).mean() >= SEEN)


def thumbnail_of(picture: Image.Image | bytes) -> np.ndarray:
    if isinstance(picture, Image.Image):
        return perceptual.thumbnail(np.asarray(picture))
    found = of_file(picture, 10**7)
    assert isinstance(found, Decoded)
    return perceptual.thumbnail(pixels_of(found.png))


def measure(pictures: int, distance: float) -> dict[str, tuple[bool, float, float]]:
    """Return for each kind whether it is one of copies, and the shares that are found and that have a key in common."""
    scenes = [Scene.drawn(seed) for seed in range(pictures)]
    originals = [scene.picture() for scene in scenes]
    first = np.stack([thumbnail_of(image) for image in originals])
    found = dict[str, tuple[bool, float, float]]()
    for number, (name, change) in enumerate(COPIES.items()):
        changed = [
            change(image, np.random.default_rng([number, seed])) for seed, image in enumerate(originals)
        ]
        found[name] = (True, *_shares(first, np.stack([thumbnail_of(image) for image in changed]), distance))
    for number, (name, change_scene) in enumerate(LOOK_ALIKES.items()):
        wanted = {LARGE: (True,), SMALL: (False,)}.get(name, (True, False))
        chosen = [
            n
            for n, scene in enumerate(scenes)
            if (scene.letters * 8 >= max(scene.width, scene.height)) in wanted
        ]
        others = {n: change_scene(scenes[n], np.random.default_rng([number, n])).picture() for n in chosen}
        seen = [n for n, image in others.items() if is_seen(originals[n], image)]
        thumbnails = np.stack([thumbnail_of(others[n]) for n in seen])
        found[name] = (False, *_shares(first[seen], thumbnails, distance))
    # Pictures that have nothing to do with each other: each with all that follow.
    one, two = np.triu_indices(pictures, 1)
    found["any two pictures"] = (False, *_shares(first[one], first[two], distance))
    return found


def _shares(first: np.ndarray, second: np.ndarray, distance: float) -> tuple[float, float]:
    near, keys = [], []
    for begin in range(0, len(first), 1000):
        one, two = first[begin : begin + 1000], second[begin : begin + 1000]
        # A key tells its place among the keys.
        common = (perceptual.keys_of(one) == perceptual.keys_of(two)).any(axis=1)
        standard = (perceptual.standardised(one), perceptual.standardised(two))
        keys.append(common)
        near.append(common & perceptual.are_near(*standard, distance))
    return float(np.concatenate(near).mean()), float(np.concatenate(keys).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--distance", type=float, default=Deduplicate().distance)
    options = parser.parse_args()
    print("| | found | a key in common |\n|---|--:|--:|")
    for name, (_, near, keys) in measure(options.pictures, options.distance).items():
        print(f"| {name} | {near:.4f} | {keys:.4f} |")


if __name__ == "__main__":
    main()
