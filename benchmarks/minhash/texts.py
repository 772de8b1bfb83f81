"""Texts for every kernel: generated, in a file of JSON strings, one a line."""

import json
import random
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

WORDS = 30_000
SYLLABLES = (
    "ka",
    "to",
    "ren",
    "mi",
    "sol",
    "ver",
    "da",
    "li",
    "pre",
    "on",
    "ta",
    "con",
    "is",
    "er",
    "su",
    "mo",
)
ACCENTED = 5
"""One in so many texts has letters outside ASCII."""
EDITED = 10
"""One in so many texts is a copy of an earlier one with 2% of its words (one at least) replaced."""


def vocabulary(rng: random.Random) -> list[str]:
    """Return different words of one to four syllables."""
    found: dict[str, None] = {}
    while len(found) < WORDS:
        found["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) + str(len(found) % 7 or "")] = None
    return list(found)


def texts(count: int, seed: int = 1) -> Iterator[str]:
    """Yield `count` texts of 20 to 400 words of Zipf-like frequency, in sentences."""
    rng = random.Random(seed)
    words = vocabulary(rng)
    weights = list(accumulate(1 / rank for rank in range(1, WORDS + 1)))
    before: list[str] = []
    for number in range(count):
        if number % EDITED == EDITED - 1:
            changed = {rng.randrange(len(before)), *(i for i in range(len(before)) if rng.random() < 0.02)}
            chosen = [f"{word}x" if i in changed else word for i, word in enumerate(before)]
        else:
            chosen = rng.choices(words, cum_weights=weights, k=min(400, int(20 * rng.paretovariate(0.9))))
            before = chosen
        sentences = [chosen[i : i + 12] for i in range(0, len(chosen), 12)]
        text = ". ".join(" ".join(part).capitalize() for part in sentences) + "."
        yield text.replace("ver", "vér") if number % ACCENTED == 0 else text


def write(file: Path, count: int) -> None:
    """Write the texts where the file does not hold enough already."""
    if file.exists() and sum(1 for _ in file.open(encoding="utf-8")) == count:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(text) + "\n" for text in texts(count))


def read(file: Path, count: int | None = None) -> list[str]:
    """Return the first `count` texts of a file."""
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for _, line in zip(range(count or 1 << 62), lines, strict=False)]
