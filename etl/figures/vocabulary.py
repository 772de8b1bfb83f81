"""Words of the published texts, from a sample of them, for comparing one version with another."""

from collections import Counter
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from etl.spark.sampled_words import is_sampled
from schemas.tables import spark_schema

MOST_WORDS = 5_000
FEWEST_RECORDS = 5
"""Sampled records below which a word is left out: it says nothing of the whole, and perhaps something of a person."""
_COUNTED = pa.schema([("word", pa.string()), ("records", pa.int64())])


def word_counts(fields: DataFrame, ledger: DataFrame, share: float) -> dict[str, int]:
    """Return the number of sampled published records that contain each of the MOST_WORDS most frequent words.

    `share` of the records is sampled (etl/spark/sampled_words.py); `clean` has recorded the words of all of them.
    """
    published = ledger.where("split IS NOT NULL").where(is_sampled(share)).select("record_id")
    noted = fields.where("sampled_words IS NOT NULL").where(is_sampled(share))
    words = noted.join(F.broadcast(published), "record_id", "left_semi").select("sampled_words")
    # Put together here: the words of rare texts are as large as the texts, which are to cross no further shuffle.
    counted = words.mapInArrow(_count, spark_schema(_COUNTED)).toArrow()
    summed = counted.group_by("word").aggregate([("records", "sum")])
    summed = summed.filter(pc.greater_equal(summed["records_sum"], FEWEST_RECORDS))
    first = summed.sort_by([("records_sum", "descending"), ("word", "ascending")]).slice(0, MOST_WORDS)
    return dict(zip(first["word"].to_pylist(), first["records_sum"].to_pylist(), strict=True))


def _count(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    counts: Counter[str] = Counter()
    for batch in batches:
        for words in batch.column(0).to_pylist():
            counts.update(words)
    yield pa.RecordBatch.from_pydict(
        {"word": list(counts), "records": list(counts.values())}, schema=_COUNTED
    )
