"""How the columns of a shard are stored."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from etl.publication.packing import DOCUMENTS_TYPE
from etl.publication.parquet_bytes import written_as
from schemas.manifest import FIXED, WIDE_ROW, Column
from training.input.wide_rows import stored_at

ROWS = 1100  # more than pyarrow puts into a page of its own accord
SCHEMA = pa.schema(
    [
        pa.field("label_index", pa.int32(), nullable=False),
        pa.field("image", pa.binary(WIDE_ROW), nullable=False),
        pa.field("small", pa.binary(WIDE_ROW - 1), nullable=False),
        pa.field("documents", DOCUMENTS_TYPE, nullable=False),
    ]
)


def test_all_is_compressed_but_wide_rows_which_have_one_page(tmp_path: Path) -> None:
    image, small = bytes(WIDE_ROW), bytes(WIDE_ROW - 1)
    document = {name.name: "r1" if name.type == pa.string() else 7 for name in DOCUMENTS_TYPE.value_type}
    rows = [{"label_index": 1, "image": image, "small": small, "documents": [document]}] * ROWS
    options = written_as(SCHEMA, ROWS)
    with pq.ParquetWriter(tmp_path / "shard", SCHEMA, **options, use_dictionary=False) as writer:
        writer.write_table(pa.Table.from_pylist(rows, SCHEMA), row_group_size=ROWS)
    metadata = pq.read_metadata(tmp_path / "shard")
    group = metadata.row_group(0)
    codecs = {group.column(n).path_in_schema: group.column(n).compression for n in range(group.num_columns)}
    assert len(codecs) > 4
    assert {name for name, codec in codecs.items() if codec != "LZ4"} == {"image"}
    column = Column(name="image", role="feature", dtype="uint8", shape=[WIDE_ROW], storage=FIXED)
    assert stored_at(metadata, 0, column) is not None
    assert written_as(SCHEMA.remove(1), ROWS).keys() == {"compression"}
