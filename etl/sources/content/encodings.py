"""Encodings of text files: which one a file has, and its content as UTF-8, which all text formats read.

A byte order mark decides before the configured encoding does. `auto` without one is UTF-8 where the whole file, or at
least half of its first lines with bytes above 127, is valid UTF-8, and otherwise what charset-normalizer finds in these
lines.
"""

import codecs
import io
from typing import Any

from etl.sources.content.streams import CHUNK, SourceStream

AUTO, UTF_8 = "auto", "utf-8"
MARKS = (
    (codecs.BOM_UTF8, UTF_8),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
SAMPLE = 64 << 10
"""Bytes of lines that are not ASCII that a guess is made from."""
COMMON = (
    "cp1252",
    "cp1250",
    "cp1251",
    "cp1253",
    "cp1254",
    "cp1255",
    "cp1256",
    "cp1257",
    "cp1258",
    "koi8_r",
    "cp866",
    "cp932",
    "euc_jp",
    "gb18030",
    "big5",
    "cp949",
    "cp874",
    "mac_roman",
    "cp437",
    "cp850",
    "cp852",
    "iso8859_15",
)
"""Encodings that charset-normalizer may find; among all that Python knows, short texts fit too many."""
PRIOR = 0.1
"""Advantage of the first of them, which is by far the most common, in charset-normalizer's coherence."""
UNDECODABLE = "\udcff"
"""Stands for a byte that cannot be decoded: as UTF-8 it becomes the byte FF, which no valid text has."""
WITHOUT_ESCAPES = dict.fromkeys(range(0xDC80, 0xDD00))
"""Table that deletes the code points for bytes that are not UTF-8."""


def marked(beginning: bytes) -> str | None:
    """Return the encoding that a byte order mark names, None without one."""
    return next((name for mark, name in MARKS if beginning.startswith(mark)), None)


def encoding_of(setting: str, beginning: bytes) -> str | None:
    """Return the encoding of a file by its beginning; None for `auto` where the whole file has to be looked at."""
    by_mark = marked(beginning)
    if by_mark is not None or setting == AUTO:
        return by_mark
    name = codecs.lookup(setting).name
    if name == "utf-8-sig":
        return UTF_8
    if name not in ("utf-16", "utf-32"):
        return name
    # Without a mark the byte order shows in the NUL bytes, if the text has any.
    found = of_null_bytes(beginning[:SAMPLE])
    return found if found is not None and found.startswith(name) else f"{name}-le"


def detected(stream: SourceStream) -> str:
    """Return the encoding of a whole stream without a byte order mark, read to its end in bounded memory."""
    reader = io.BufferedReader(stream, CHUNK)
    decoder = codecs.getincrementaldecoder(UTF_8)()
    beginning, sample, valid = b"", b"", True
    while chunk := reader.read(CHUNK):
        beginning = beginning or chunk[:SAMPLE]
        if valid:
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                valid = False
        if len(sample) < SAMPLE:
            sample += b"\n".join(line for line in chunk.split(b"\n") if not line.isascii())[:SAMPLE]
        elif not valid:
            break
    if valid:
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            valid = False
    if valid:
        return of_null_bytes(beginning) or UTF_8
    if mostly_utf_8(sample):
        return UTF_8  # of which a few bytes are damaged; the guess would spoil every other record
    return guessed(beginning, sample) or UTF_8


def mostly_utf_8(sample: bytes) -> bool:
    """Return True where at least half of the lines of a sample, the last one perhaps cut off, are valid UTF-8."""
    *lines, last = sample.split(b"\n")
    try:
        codecs.getincrementaldecoder(UTF_8)().decode(last)
        valid = 1
    except UnicodeDecodeError:
        valid = 0
    valid += sum(_decodable(line, UTF_8) is not None for line in lines)
    return 2 * valid >= len(lines) + 1


def of_null_bytes(beginning: bytes) -> str | None:
    """Return the UTF-16 or UTF-32 that a beginning without a byte order mark is by its NUL bytes, None for another."""
    size = len(beginning) // 4 * 4
    if size < 4 or b"\0" not in beginning:
        return None
    shares = [beginning[place:size:4].count(0) * 4 / size for place in range(4)]
    if min(shares[2:]) > 0.9 and shares[0] < 0.1:
        return "utf-32-le"
    if min(shares[:2]) > 0.9 and shares[3] < 0.1:
        return "utf-32-be"
    low, high = shares[0] + shares[2], shares[1] + shares[3]
    if high > 0.4 and low < 0.1:
        return "utf-16-le"
    return "utf-16-be" if low > 0.4 and high < 0.1 else None


def guessed(beginning: bytes, sample: bytes) -> str | None:
    """Return the likely encoding of a file that is not UTF-8, by its beginning and lines with bytes above 127."""
    # The import takes a tenth of a second, which most runs need not spend.
    from charset_normalizer import CharsetMatch, from_bytes

    wide = of_null_bytes(beginning)
    if wide is not None:
        return wide
    western = _decodable(sample, COMMON[0])
    if western is not None and not any(c.isalpha() for c in western if not c.isascii()):
        return COMMON[0]  # dashes, quotes and currency signs, which say nothing of a language

    def score(match: CharsetMatch) -> tuple[float, int]:
        is_western = western is not None and str(match) == western
        return match.coherence - match.chaos + PRIOR * is_western, -COMMON.index(match.encoding)

    matches = list(from_bytes(sample, cp_isolation=list(COMMON), enable_fallback=False))
    if not matches:
        return None
    best = max(matches, key=score)
    return COMMON[0] if western is not None and str(best) == western else best.encoding


def likely(beginning: bytes, record: bytes) -> str | None:
    """Return the likely encoding of a file with a record that is not UTF-8; None where most of the others are."""
    lines = [line for line in beginning.split(b"\n") if not line.isascii()]
    others = [line for line in lines if _decodable(line, UTF_8) is None]
    if 2 * len(others) < len(lines):
        return None
    found = guessed(beginning[:SAMPLE], (b"\n".join(others) or record)[:SAMPLE])
    return None if found == UTF_8 else found


def _decodable(sample: bytes, encoding: str) -> str | None:
    try:
        return sample.decode(encoding)
    except UnicodeDecodeError:
        return None


def _undecodable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return what stands for what cannot be decoded; in UTF-8 also for lone surrogates, which some codecs let pass."""
    assert isinstance(error, UnicodeDecodeError | UnicodeEncodeError)
    stands = UNDECODABLE if isinstance(error, UnicodeDecodeError) else b"\xff"
    return stands * (error.end - error.start), error.end


ERRORS = "ringlake.undecodable"
codecs.register_error(ERRORS, _undecodable)


class Transcoded(io.RawIOBase):
    """Content of a stream as UTF-8; like `SourceStream` it tells damage and what it has given.

    A byte that cannot be decoded becomes the byte FF, so that its record is refused and no other.
    """

    def __init__(self, source: SourceStream, reader: io.BufferedReader, encoding: str) -> None:
        """Transcode what `reader`, a buffer of `source`, still has."""
        super().__init__()
        self.source, self.encoding = source, encoding
        self.start = self.given = 0
        self._decoder = codecs.getincrementaldecoder(encoding)(ERRORS)
        self._raw = reader
        self._pending = memoryview(b"")
        self._texts: list[tuple[int, int, bytes]] = []
        """UTF-8 from the last place that was asked for on: its place, its position in the file, the bytes."""
        self._asked = (0, 0)
        """The last place that was asked for, and its position."""
        self._fed = 0
        self._ended = False

    def close(self) -> None:
        self._raw.close()
        super().close()

    @property
    def damage(self) -> str | None:
        return self.source.damage

    @property
    def reason(self) -> str:
        return self.source.reason

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._pending and not self._ended:
            self._decode()
        count = min(len(buffer), len(self._pending))
        buffer[:count] = self._pending[:count]
        self._pending = self._pending[count:]
        return count

    def _decode(self) -> None:
        """Decode the next chunk."""
        begin = self._fed - len(self._decoder.getstate()[0])
        chunk = self._raw.read(CHUNK)
        self._ended = not chunk
        self._fed += len(chunk)
        text = self._decoder.decode(chunk, final=self._ended)
        content = text.encode(UTF_8, ERRORS)
        if content:
            self._texts.append((self.given, begin, content))
            self._pending = memoryview(content)
            self.given += len(content)

    def position(self, place: int) -> int:
        """Return the byte position in the file of a place in the UTF-8; call it with ascending places.

        It is exact but for encodings with states (ISO 2022, HZ, UTF-7).
        """
        while len(self._texts) > 1 and self._texts[1][0] <= place:
            del self._texts[0]
            self._asked = self._texts[0][:2]
        if self._texts:
            begin, _, content = self._texts[0]
            last, position = self._asked
            text = content[last - begin : place - begin].decode(UTF_8, "surrogateescape")
            decoded = text.translate(WITHOUT_ESCAPES)
            position += len(decoded.encode(self.encoding, "replace")) + len(text) - len(decoded)
            self._asked = (place, position)
        return self._asked[1]
