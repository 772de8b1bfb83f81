"""The words of the published texts, from a sample of them, for comparing one version with another."""

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
"""A word of fewer sampled records is left out: it says nothing of the whole, and perhaps something of a person."""
_COUNTED = pa.schema([("word", pa.string()), ("records", pa.int64())])


def word_counts(fields: DataFrame, ledger: DataFrame, share: float) -> dict[str, int]:
    """The number of sampled published records that each of the MOST_WORDS most frequent words stands in.

    `share`: of the records (etl/spark/sampled_words.py), for all of which `clean` has noted the words.
    """
    published = ledger.where("split IS NOT NULL").where(is_sampled(share)).select("record_id")
    noted = fields.where("sampled_words IS NOT NULL").where(is_sampled(share))
    words = noted.join(F.broadcast(published), "record_id", "left_semi").select("sampled_words")
    # Put together here: the words of rare texts are as much as the texts, which are to cross no further shuffle.
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
