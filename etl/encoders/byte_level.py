"""Byte-level BPE of texts with recurring words: the `tokenizers` library encodes each distinct piece once.

The library cuts a text into pieces (a word with the space before it, a run of digits, …) and encodes each piece on its
own. Nine tenths of its time go into the cutting. Here Python's `re` cuts texts made of characters on which both agree;
all other texts go to the library whole.
"""

import itertools
import json
import re
import unicodedata
from array import array
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

Ids = npt.NDArray[np.signedinteger[Any]]

CUT = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+"
    r"|\s+(?!\S)|\s+"
)
"""Pieces that no token exceeds: GPT-2's (Radford et al. 2019), but with the marks (vowel signs, accents) of a word.

GPT-2 takes marks for punctuation: no token would have two letters of a Thai, Khmer, Burmese or Hindi word with a vowel
sign between them. For texts without marks both are the same.
"""
MOST_PIECES = 1 << 18
"""Pieces that a worker remembers, some 40 MB; beyond that it forgets them and starts anew."""
AT_A_TIME = 1 << 20
"""Characters to encode at a time: the library holds some 150 bytes for each of them until it is done."""

# No marks are among the characters on which both agree, so that these are cut as by GPT-2 too.
# Scripts whose letters have been letters in every edition of Unicode since 5.0: neither their class nor their
# normalisation depends on the edition that Python or the library was built with. Latin, Greek, Cyrillic.
_LETTERS = (
    "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f"
    "\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03ce\u0400-\u0481\u048a-\u0513"
)
# Signs that are neither letters, digits nor white space: those of Latin-1, dashes, quotation marks, bullets, €.
_SIGNS = (
    "\u00a1-\u00a7\u00a9\u00ab-\u00ae\u00b0\u00b1\u00b6\u00b7\u00bb\u00bf\u00d7\u00f7"
    "\u2010-\u2027\u2030-\u203a\u20ac\u2122"
)
_SPACE = "\\t-\\r "
_AGREED = re.compile(rf"[\x00-\x7f{_LETTERS}{_SIGNS}]*")
_PIECE = re.compile(
    rf"'(?:[sdmt]|ll|ve|re)| ?[{_LETTERS}]+| ?[0-9]+| ?[^{_SPACE}{_LETTERS}0-9]+"
    rf"|[{_SPACE}]+(?![^{_SPACE}])|[{_SPACE}]+"
)
# Places to cut a text without changing its tokens: no piece continues from non-white space into white space, no piece
# looks back, and normalisation joins nothing to a space (nor turns the end of any other sign into one).
_SEAM = re.compile(r"(?<=\S)[ \t\n\r]")


class PieceEncoder:
    """Encoder of texts to token ids at a fixed length, identical to the library's `encode`."""

    def __init__(self, tokenizer: Tokenizer, cuts_as_gpt2: bool) -> None:
        self.tokenizer, self.cuts_as_gpt2 = tokenizer, cuts_as_gpt2
        self.normalises = tokenizer.normalizer is not None
        self.known = _Pieces(tokenizer)

    @classmethod
    def of(cls, artifact: bytes) -> Self:
        """Create an encoder from the content of a `tokenizer.json`; one that cuts texts differently is left to the
        library.
        """
        tokenizer = Tokenizer.from_str(artifact.decode())
        # A text never contains a special token, such as the padding.
        tokenizer.encode_special_tokens = True
        # Files of pretrained models often cut and pad to a length of their own, from which no count could be taken.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(tokenizer, _cuts_as_gpt2(json.loads(tokenizer.to_str())))

    def encode(self, texts: Sequence[str], length: int, tail: int) -> tuple[Ids, Ids]:
        """Return rows of `length` ids, int32 (texts, length), padded with 0, and the untruncated counts, int64
        (texts,).

        Of a text with more ids the first length - tail and the last `tail` are kept. Special tokens are not added.
        """
        rows, counts = np.zeros((len(texts), length), dtype=np.int32), np.zeros(len(texts), dtype=np.int64)
        begin = 0
        while begin < len(texts):
            end, held = begin + 1, len(texts[begin])
            while end < len(texts) and held + len(texts[end]) <= AT_A_TIME:
                held += len(texts[end])
                end += 1
            if held > AT_A_TIME and self.cuts_as_gpt2:
                rows[begin], counts[begin] = self._encode_long(texts[begin], length, tail)
            else:
                rows[begin:end], counts[begin:end] = self._encode(texts[begin:end], length, tail)
            begin = end
        return rows, counts

    def encode_whole(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        """Return all ids of the texts, int32, laid end to end, and the number of each text's, int64 (texts,)."""
        found, counts = [np.zeros(0, dtype=np.int32)], np.zeros(len(texts), dtype=np.int64)
        for place, text in enumerate(texts):
            begin = 0
            while begin < len(text):
                end = len(text)
                if self.cuts_as_gpt2 and end - begin > AT_A_TIME:
                    seam = _SEAM.search(text, begin + AT_A_TIME)
                    end = len(text) if seam is None else seam.start()
                ids = self._whole(text[begin:end])
                found.append(ids)
                counts[place] += len(ids)
                begin = end
        return np.concatenate(found), counts

    def _whole(self, text: str) -> Ids:
        pieces = self._cut(text) if self.cuts_as_gpt2 else None
        if pieces is None:
            return np.asarray(self.tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int32)
        self._forget_many()
        ids = [self.known.ids_of(piece) for piece in pieces]
        return np.fromiter(itertools.chain.from_iterable(ids), dtype=np.int32)

    def _forget_many(self) -> None:
        if len(self.known) > MOST_PIECES or len(self.known.ids) > 8 * MOST_PIECES:
            self.known = _Pieces(self.tokenizer)

    def _encode_long(self, text: str, length: int, tail: int) -> tuple[Ids, int]:
        """Return the row and the untruncated count of a text that is encoded in parts."""
        first, last, count, begin = np.zeros(0, np.int32), np.zeros(0, np.int32), 0, 0
        while begin < len(text):
            seam = _SEAM.search(text, begin + AT_A_TIME)
            end = len(text) if seam is None else seam.start()
            # All ids of a part, or its first and last: no row takes more of it than these.
            rows, counts = self._encode([text[begin:end]], 2 * length, length)
            ids = rows[0, : counts[0]]
            first = np.concatenate((first, ids[: length - len(first)]))
            last = np.concatenate((last, ids))[-length:]
            count += int(counts[0])
            begin = end
        if count > length:
            first = np.concatenate((first[: length - tail], last[length - tail :]))
        return np.pad(first, (0, length - len(first))), count

    def _encode(self, texts: Sequence[str], length: int, tail: int) -> tuple[Ids, Ids]:
        self._forget_many()
        rows, counts = np.zeros((len(texts), length), dtype=np.int32), np.zeros(len(texts), dtype=np.int64)
        whole: list[int] = []
        numbered: list[npt.NDArray[np.int32]] = []
        places: list[int] = []
        for place, text in enumerate(texts):
            pieces = self._cut(text) if self.cuts_as_gpt2 else None
            if pieces is None:
                whole.append(place)
            else:
                numbered.append(np.fromiter(map(self.known.__getitem__, pieces), dtype=np.int32))
                places.append(place)
        if whole:
            found = self.tokenizer.encode_batch_fast([texts[i] for i in whole], add_special_tokens=False)
            ids = [np.asarray(encoding.ids, dtype=np.int32) for encoding in found]
            sizes = np.array([len(of_text) for of_text in ids])
            ends = np.cumsum(sizes)
            starts = ends - sizes
            # Each text is one piece here.
            one = np.arange(len(ids))
            known = np.concatenate(ids), starts, ends
            _place(rows, counts, np.array(whole), one, np.ones_like(one), tail, known)
        if numbered:
            sizes = np.array([len(of_text) for of_text in numbered])
            _place(rows, counts, np.array(places), np.concatenate(numbered), sizes, tail, self.known.arrays())
        return rows, counts

    def _cut(self, text: str) -> list[str] | None:
        """Return the pieces of a text; None where the library has to find them."""
        if not text.isascii():
            if _AGREED.fullmatch(text) is None:
                return None
            if self.normalises:
                text = unicodedata.normalize("NFKC", text)
                if _AGREED.fullmatch(text) is None:
                    return None
        return _PIECE.findall(text)


class _Pieces(dict[str, int]):
    """Numbering of the pieces that are asked for, with their concatenated ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.ids, self.ends = array("i"), array("q")

    def __missing__(self, piece: str) -> int:
        self.ids.extend(self.tokenizer.encode(piece, add_special_tokens=False).ids)
        self.ends.append(len(self.ids))
        number = self[piece] = len(self.ends) - 1
        return number

    def ids_of(self, piece: str) -> array[int]:
        """Return the ids of a piece."""
        number = self[piece]
        return self.ids[self.ends[number - 1] if number else 0 : self.ends[number]]

    def arrays(self) -> tuple[Ids, Ids, Ids]:
        """Return the ids of all pieces, and where those of each begin and end."""
        ends = np.array(self.ends)
        return np.array(self.ids), np.concatenate(([0], ends[:-1])), ends


def _place(
    rows: Ids, counts: Ids, places: Ids, pieces: Ids, sizes: Ids, tail: int, known: tuple[Ids, Ids, Ids]
) -> None:
    """Fill in the `places` of `rows` and `counts` from the numbers of the texts' pieces, laid end to end.

    `sizes`: number of pieces of each text; `known`: as `_Pieces.arrays`.
    """
    ids, starts, ends = known
    length = rows.shape[1]
    long = (ends - starts)[pieces]
    after = np.concatenate(([0], np.cumsum(long)))
    last = np.cumsum(sizes)
    total = after[last] - after[last - sizes]
    counts[places] = total
    text = np.repeat(np.arange(len(sizes)), sizes)
    begin = after[:-1] - after[last - sizes][text]  # of a piece, in the ids of its text
    head = np.where(total > length, length - tail, length)
    left_out = np.maximum(total - length, 0)  # ids between head and tail
    wanted = np.flatnonzero((begin < head[text]) | (begin + long > (head + left_out)[text]))
    long, text, begin = long[wanted], text[wanted], begin[wanted]
    within = np.arange(long.sum()) - np.repeat(np.cumsum(long) - long, long)
    column = np.repeat(begin, long) + within
    source = np.repeat(starts[pieces[wanted]], long) + within
    text = np.repeat(text, long)
    kept = (column < head[text]) | (column >= (head + left_out)[text])
    column, source, text = column[kept], source[kept], text[kept]
    column -= np.where(column < head[text], 0, left_out[text])
    rows[places[text], column] = ids[source]


def _of_bytes(use_regex: bool) -> dict[str, object]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


_CUTTING = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": CUT}, "behavior": "Isolated", "invert": False},
        _of_bytes(use_regex=False),
    ],
}
"""Pre-tokenizer that cuts by CUT, in a `tokenizer.json`."""


def _cuts_as_gpt2(tokenizer: dict[str, object]) -> bool:
    """Return True for the JSON of a byte-level BPE that cuts as CUT or GPT-2 do, with nothing beside it but NFKC."""
    model, cutting = tokenizer["model"], tokenizer["pre_tokenizer"]
    added = tokenizer["added_tokens"]
    return (
        isinstance(model, dict)
        and model.get("type") == "BPE"
        and not model.get("dropout")
        and tokenizer["normalizer"] in (None, {"type": "NFKC"})
        and isinstance(cutting, dict)
        and (cutting == _CUTTING or {**cutting, "trim_offsets": True} == _of_bytes(use_regex=True))
        and tokenizer["post_processor"] is None
        and tokenizer["truncation"] is None
        and tokenizer["padding"] is None
        and isinstance(added, list)
        and all(token["special"] for token in added)
    )
