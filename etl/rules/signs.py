"""Inspection of the bytes of many texts at once, so that a rule sees only texts that it may affect.

Most texts contain none of the signs that a rule is about. Testing a batch's bytes in numpy costs a fraction of
calling the rule on each text.
"""

from collections.abc import Iterable
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Flags = npt.NDArray[np.bool_]

BEYOND_ASCII = bytes(range(128, 256))
DIGITS = b"0123456789"
NOT_DIGITS = bytes(set(range(128)) - set(DIGITS))
"""In ASCII."""
SPACE, LINE_FEED = 32, 10
_WHITE_SPACE = bytes({SPACE: 1, LINE_FEED: 2}.get(code, 0) for code in range(256))
# In UTF-8 the first bytes of all characters from U+0080 on that are white space, control or invisible characters (and
# of many others): those of U+0080–U+00BF, U+1000–U+1FFF, U+2000–U+2FFF, U+3000–U+3FFF, U+F000–U+FFFF.
PERHAPS_INVISIBLE = b"\xc2\xe1\xe2\xe3\xef"


class Signs:
    """Bytes of n texts: an Arrow array of strings, none of them null.

    Every answer is a bool array (n,): False is certain, True may be a false alarm where the method says so.
    """

    def __init__(self, texts: pa.StringArray) -> None:
        offset_buffer, data = texts.buffers()[1:]
        offsets = np.frombuffer(offset_buffer, dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1]
        self.texts = texts
        self.offsets = offsets.astype(np.int64) - int(offsets[0])
        self.content = memoryview(data or b"")[int(offsets[0]) : int(offsets[-1])].tobytes()
        self.bytes = np.frombuffer(self.content, dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.texts)

    def any_of(self, values: Iterable[int]) -> Flags:
        """Return True for texts in which any of these bytes occurs."""
        return self._any_at(np.flatnonzero(self._is_one_of(bytes(values))))

    def sums(self, values: Iterable[int]) -> npt.NDArray[np.int64]:
        """Count these bytes, which should be rare, in each text; int64 (n,)."""
        found = np.flatnonzero(self._is_one_of(bytes(values)))
        return np.diff(np.searchsorted(found, self.offsets))

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Bytes of each text, int64 (n,)."""
        return np.diff(self.offsets)

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Characters of each text, int64 (n,)."""
        lengths: npt.NDArray[np.int64] = pc.utf8_length(self.texts).to_numpy().astype(np.int64)
        return lengths

    @cached_property
    def digits(self) -> npt.NDArray[np.int64]:
        """ASCII digits of each text, int64 (n,); several rules ask for them."""
        return self.sums(DIGITS)

    def runs_of_white_space(self, line_feeds: int) -> Flags:
        """Return True for texts with white space to collapse.

        It is adjacent spaces and line feeds, except up to `line_feeds` line feeds in a row, or either at a text's
        beginning or end; a run across the border of two texts is a false alarm.
        """
        codes = np.frombuffer(self.content.translate(_WHITE_SPACE), dtype=np.uint8)
        pairs = codes[:-1] * codes[1:]  # 1 or 2 with a space among them, 4 for two line feeds
        odd = (pairs & 3) != 0
        run = codes == _WHITE_SPACE[LINE_FEED]
        for _ in range(line_feeds):
            run = run[:-1] & run[1:]
        odd[: len(run)] |= run[: len(odd)]
        flagged = self._any_at(np.flatnonzero(odd))
        filled = np.flatnonzero(self.sizes)
        flagged[filled] |= (codes[self.offsets[filled]] | codes[self.offsets[filled + 1] - 1]) != 0
        return flagged

    def _is_one_of(self, values: bytes) -> Flags:
        if len(values) == 1:
            return np.asarray(self.bytes == values[0])
        # Several times as fast as numpy, which would make an index of eight bytes out of each.
        table = bytes(code in values for code in range(256))
        return np.frombuffer(self.content.translate(table), dtype=np.bool_)

    def _any_at(self, places: npt.NDArray[np.int64]) -> Flags:
        """Return True for texts that contain one of these places, which are sorted."""
        flags: Flags = np.diff(np.searchsorted(places, self.offsets)) > 0
        return flags
