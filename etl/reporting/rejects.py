"""Quarantined records on the terminal, personal data masked."""

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from common.wording import counted, printable
from etl.reporting.examples import snippet
from etl.rules.characters import NormaliseWhiteSpace, RemoveControlCharacters
from etl.rules.personal_data import LONGEST, Mask
from etl.sources.escapes import unescaped
from etl.sources.rejects import _place, with_content
from schemas.cleaning import ControlCharactersRule, WhiteSpaceRule
from schemas.config import Configuration


def show(
    config: Configuration, table: DeltaTable, rows: pa.Table, examples: int, where: str, column: str = "raw"
) -> None:
    """Print the reasons, most frequent first, and `examples` records of each by their `column`."""
    mask = Mask(config.clean)
    counts = Counter(rows["reason"].to_pylist())
    chosen = [place for reason in counts for place in _first(rows, reason, examples)]
    taken = rows.take(pa.array(chosen, pa.int64()))
    contents = {_place(row): row[column] for row in with_content(table, taken, column)}
    print(f"{counted(len(rows), 'record')} {where}")
    for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        print(f"\n{reason}: {count:,}")
        for row in rows.take(pa.array(_first(rows, reason, examples), pa.int64())).to_pylist():
            content = contents[_place(row)]
            place, detail = printable(mask(row["source_path"])), printable(mask(row["detail"]))
            print(f"  {place}, at {row['source_position'] or 0:,}{': ' * bool(detail)}{detail}")
            if content:
                print(f"    {masked(content if isinstance(content, bytes) else content.encode(), mask)}")


def _first(rows: pa.Table, reason: str, count: int) -> list[int]:
    """Return the places in `rows` of the first records with a reason."""
    found: list[int] = pc.indices_nonzero(pc.equal(rows["reason"], reason))[:count].to_pylist()
    return found


def masked(raw: bytes, mask: Mask) -> str:
    """Return the beginning of a raw record in a line, masking personal data even behind escapes of JSON or HTML.

    Where more is found without invisible characters and with plain spaces, it is shown so. Records with NUL bytes are
    not shown: in UTF-16, for one, no rule finds anything, and people can read it all the same.
    """
    if b"\0" in raw[:LONGEST]:
        return "(not shown: it holds NUL bytes)"
    text, cut_off = unescaped(raw[:LONGEST]), len(raw) >= LONGEST
    visible, _ = RemoveControlCharacters(ControlCharactersRule()).apply(text)
    plain, _ = NormaliseWhiteSpace(WhiteSpaceRule()).apply(visible)
    as_it_is, as_cleaned = mask.marked(text, cut_off), mask.marked(plain, cut_off)
    return snippet(as_it_is if mask.hides_as_much(as_it_is, as_cleaned) else as_cleaned)
