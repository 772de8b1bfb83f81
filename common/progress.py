"""Progress of long work: a bar with rate and time left on a terminal, elsewhere a line every few seconds."""

import sys
import time
from typing import Self, TextIO

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 5.0


def log(message: str) -> None:
    """Log a message to standard error at once; standard output stays clean for pipes."""
    print(message, file=sys.stderr, flush=True)


class Progress:
    """Progress of `what`: `unit`s of work done out of `total` (None: unknown).

    Shows a tqdm bar on a terminal; elsewhere a line at most every `SECONDS_BETWEEN_LINES`, and one at the end.
    """

    def __init__(self, what: str, total: int | None, unit: str = "it", stream: TextIO | None = None) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = 0
        self.stream = stream or sys.stderr
        self.began = self.last_line = time.monotonic()
        self.bar: tqdm[None] | None = None
        if self.stream.isatty():
            self.bar = tqdm(total=total, desc=what, unit=f" {unit}", file=self.stream, dynamic_ncols=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, amount: int = 1, note: str = "") -> None:
        """Add `amount` to the work done, and show `note` behind the figures. Call it with 0 to show a sign of life."""
        self.done += amount
        if self.bar is not None:
            if note:
                self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(amount)
        elif time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self._line(note)

    def grow(self, total: int) -> None:
        """Correct the total, for work whose size only shows on the way."""
        self.total = total
        if self.bar is not None:
            self.bar.total = total
            self.bar.refresh()

    def close(self, note: str = "") -> None:
        """Close the bar, or print the last line."""
        if self.bar is not None:
            if note:
                self.bar.set_postfix_str(note)
            self.bar.close()
        else:
            self._line(note)

    def _line(self, note: str) -> None:
        self.last_line = time.monotonic()
        seconds = self.last_line - self.began
        rate = self.done / seconds if seconds > 0 else 0.0
        of_total = f"/{self.total:,} ({100 * self.done / self.total:.0f}%)" if self.total else ""
        left = ""
        if self.total and rate > 0 and self.done < self.total:
            left = f", {(self.total - self.done) / rate:.0f} s left"
        tail = f" · {note}" if note else ""
        print(
            f"  {self.what}: {self.done:,}{of_total} {self.unit} in {seconds:.1f} s, {rate:,.1f}/s{left}{tail}",
            file=self.stream,
            flush=True,
        )
