"""Comparison of the configured columns with what the sources have, before Spark starts and anything is written.

Of each source up to PIECES files, or pieces of large ones, are looked at, evenly spaced, and of them all together
LOOKED_BYTES or LOOKED_RECORDS, whichever is less; the look ends where every column was seen, which usually is the first
record. A column that only some records lack is left to `ingest`, and so is a file that cannot be read.
"""

import difflib
from collections.abc import Sequence
from itertools import groupby

from common.errors import ConfigurationError
from common.wording import printable
from etl.sources.contract import Contract
from etl.sources.files.formats import FilePart, formats
from etl.sources.files.pieces import Piece, list_pieces
from etl.sources.paths import namesakes
from schemas.config import Configuration
from schemas.sources.csv import Csv

PIECES = 50
LOOKED_BYTES, LOOKED_RECORDS = 16 << 20, 100_000
SHOWN = 30
"""Names of columns in a message."""
LONGEST_NAME = 60
"""Characters of a name in a message."""


def check_columns(config: Configuration) -> None:
    """Raise ConfigurationError where no record of a source that was looked at has a configured column.

    A typed column may be missing in some sources, not in all. Raises DataError for a pattern without files.
    """
    contract = Contract(config)
    needed = [name for name in contract.needed if name not in contract.typed]
    missing_everywhere = set(contract.typed)
    first: tuple[list[Piece], list[str]] | None = None
    for _, group in groupby(list_pieces(config), key=lambda piece: piece.file.source_index):
        pieces, seen = look(list(group), config, contract, {*needed, *missing_everywhere})
        if not seen:
            continue
        missing_everywhere -= set(seen)
        first = first or (pieces, seen)
        missing = [name for name in needed if name not in seen]
        if missing:
            raise ConfigurationError(told(missing, pieces, seen, config))
    if missing_everywhere and first is not None:
        raise ConfigurationError(told(sorted(missing_everywhere), *first, config))


def look(
    pieces: Sequence[Piece], config: Configuration, contract: Contract, wanted: set[str]
) -> tuple[list[Piece], list[str]]:
    """Return the pieces of a source in which a record was seen, and the columns of all of these records."""
    chosen = evenly(
        [piece for piece in pieces if not piece.hash_only and piece.file.obstacle is None], PIECES
    )
    seen: dict[str, None] = {}
    read: list[Piece] = []
    for piece in chosen:
        source = config.source[piece.file.source_index]
        part = FilePart.of(piece.file, source, config.storage, piece.start, piece.end)
        left, records = LOOKED_BYTES // len(chosen), LOOKED_RECORDS // len(chosen)
        given = dict(piece.file.columns)  # named by its folders
        try:
            for names, size in formats()[source.format].columns(part, source, contract):
                if names and (not read or read[-1] is not piece):
                    read.append(piece)
                seen |= dict.fromkeys((*names, *given) if names else ())
                left, records = left - size, records - 1
                if left < 0 or not records or wanted <= seen.keys():
                    break
        finally:
            part.close()
        if wanted <= seen.keys():
            break
    return read, list(seen)


def evenly(pieces: Sequence[Piece], most: int) -> list[Piece]:
    """Return at most so many of the pieces, evenly spaced, the first and the last among them."""
    if len(pieces) <= most:
        return list(pieces)
    return [pieces[place * (len(pieces) - 1) // (most - 1)] for place in range(most)]


def told(missing: Sequence[str], pieces: Sequence[Piece], seen: Sequence[str], config: Configuration) -> str:
    """Return the sentence about columns that a source lacks."""
    paths = list(dict.fromkeys(piece.file.path for piece in pieces))
    more = f", like each of the {len(paths):,} files looked at," if len(paths) > 1 else ""
    names = " and ".join(f"no column {name!r}" for name in missing)
    shown = ", ".join(printable(name, LONGEST_NAME) for name in seen[:SHOWN]) + (
        ", …" if len(seen) > SHOWN else ""
    )
    guesses = [(name, guess) for name in missing if (guess := nearest(name, seen)) is not None]
    if len(missing) == 1:
        hint = "".join(f" (did you mean {guess!r}?)" for _, guess in guesses)
    else:
        meant = " and ".join(f"{guess!r} for {name!r}" for name, guess in guesses)
        hint = f" (did you mean {meant}?)" if meant else ""
    keys = ", ".join(dict.fromkeys(key for name in missing for key in keys_of(name, config)))
    sentence = f"{printable(paths[0], LONGEST_NAME)}{more} has {names}; it has {shown}{hint}; correct {keys}"
    if any(f"/{name}=" in piece.file.location for name in missing for piece in pieces):
        sentence += ", or set source.root to a folder above the one that names the column"
    source = config.source[pieces[0].file.source_index]
    if isinstance(source, Csv) and source.header is None and not set(seen) & set(Contract(config).needed):
        return f"{sentence}, or {of_header(seen)}"
    return sentence


def of_header(seen: Sequence[str]) -> str:
    """Return what a header line without any configured column may call for."""
    if len(seen) == 1:
        for delimiter in (";", "\t", "|"):
            if delimiter in seen[0]:
                return f"source.delimiter, which is {delimiter!r} by the look of the first line"
    return "name the columns in source.header if the first line is no header"


def nearest(name: str, seen: Sequence[str]) -> str | None:
    """Return the column that a name is likely a misspelling of, or the last key of."""
    below = namesakes(name, seen)
    if below:
        return below[0]
    folded = {other.strip().casefold(): other for other in reversed(seen)}
    found = difflib.get_close_matches(name.strip().casefold(), folded, 1)
    return folded[found[0]] if found else None


def keys_of(name: str, config: Configuration) -> list[str]:
    """Return the keys of the configuration that name a column."""
    columns = config.columns.model_dump(include={"id", "label", "group", "time"})
    named = {f"columns.{role}": column for role, column in columns.items()}
    named |= {f"feature.{place}.column": one.column for place, one in enumerate(config.feature)}
    named["deduplicate.column"] = config.deduplicate.column
    return [
        f"columns.rename.{column}" if column in config.columns.rename else key
        for key, column in named.items()
        if column and config.columns.in_files(column) == name
    ]
