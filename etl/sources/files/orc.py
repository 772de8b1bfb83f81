"""ORC: a record is a row, its position the number of the row in the file.

Columns are those of Arrow, as in Parquet (etl/sources/arrow_columns.py). A file is read once from its beginning.
"""

import contextlib
import io
from collections.abc import Collection, Iterator

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import orc

from etl.sources.arrow_columns import ArrowColumns
from etl.sources.content.streams import content_limit, open_plain
from etl.sources.contract import Contract
from etl.sources.files.formats import FilePart, Found, Rejected, SourceFormat
from etl.sources.files.parquet import BATCH_BYTES, BATCH_ROWS, checked_row, size_of_row, too_large
from schemas.sources import SourceSettings


class OrcFormat(SourceFormat):
    """`format = "orc"`"""

    name = "orc"
    random_access = True

    def read(
        self, part: FilePart, settings: SourceSettings, contract: Contract
    ) -> Iterator[Found | Rejected]:
        position = given = part.rows = 0
        try:
            with open_plain(part.location, part.options) as file:
                size = file.seek(0, io.SEEK_END)
                limit = content_limit(size, part.max_expansion)
                whole = orc.ORCFile(file)
                part.rows = whole.nrows
                columns = ArrowColumns(whole.schema, contract)
                refusal = columns.refusal()
                if refusal is not None:
                    for row in range(whole.nrows):
                        yield Rejected(row, b"{}", *refusal)
                    return
                bytes_of_a_row = max(1, size // max(1, whole.nrows))
                batches = (
                    ds.OrcFileFormat()
                    .make_fragment(pa.PythonFile(file, "r"))
                    .to_batches(
                        columns=columns.top,
                        batch_size=max(1, min(BATCH_ROWS, BATCH_BYTES // bytes_of_a_row)),
                        use_threads=False,
                    )
                )
                for batch in batches:
                    for values in columns.rows(batch):
                        found = checked_row(position, values)
                        given += size_of_row(found)
                        if limit is not None and given > limit:
                            yield too_large(position, part.max_expansion, part.rows - position)
                            return
                        yield found
                        position += 1
        # pyarrow reports damage as ArrowException or as an OSError without a number; one with a number is the system's.
        except (OSError, pa.ArrowException) as error:
            kind = "cannot be read" if getattr(error, "errno", None) else "is not ORC or is damaged"
            detail = f"the file {kind} from row {position:,} on"
            left = part.rows - position
            yield Rejected(position, b"", "unreadable_file", detail, damaged=True, size=left)

    def columns(
        self, part: FilePart, settings: SourceSettings, contract: Contract
    ) -> Iterator[tuple[Collection[str], int]]:
        """Yield the columns of the schema."""
        with contextlib.suppress(OSError, pa.ArrowException):  # `read` tells of each
            with open_plain(part.location, part.options) as file:
                names = ArrowColumns(orc.ORCFile(file).schema, contract).names()
            yield names, 0


FORMAT = OrcFormat()
