"""The words of the published texts, from a sample of them, for comparing one version with another."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from etl.sampling import in_sample
from schemas.config import Configuration
from schemas.tables import spark_schema

SAMPLED_CHARACTERS = 20_000_000
MOST_WORDS = 5_000
FEWEST_RECORDS = 5
"""A word of fewer sampled records is left out: it says nothing of the whole, and perhaps something of a person."""
WORD = re.compile(r"[^\W\d_]+")
"""Letters alone: no number, of a telephone or an account, is a word."""
_COUNTED = pa.schema([("word", pa.string()), ("records", pa.int64())])


def word_counts(
    config: Configuration, fields: DataFrame, ledger: DataFrame, characters: int
) -> dict[str, int]:
    """The number of sampled published records that each of the MOST_WORDS most frequent words stands in.

    The sample, about SAMPLED_CHARACTERS of `characters` in all, is chosen by the hash of the record id: the same for
    the same records. Words are runs of letters, case-folded.
    """
    share = min(1.0, SAMPLED_CHARACTERS / characters) if characters else 1.0
    chosen = F.lit(True)
    if share < 1:
        chosen = in_sample(share, "words")
    published = ledger.where("split IS NOT NULL").where(chosen).select("record_id")
    texts = fields.where(chosen).join(F.broadcast(published), "record_id", "left_semi")
    # Put together here: the words of rare texts are as much as the texts, which are to cross no further shuffle.
    counted = texts.select(config.deduplicated_column()).mapInArrow(_count, spark_schema(_COUNTED)).toArrow()
    summed = counted.group_by("word").aggregate([("records", "sum")])
    summed = summed.filter(pc.greater_equal(summed["records_sum"], FEWEST_RECORDS))
    first = summed.sort_by([("records_sum", "descending"), ("word", "ascending")]).slice(0, MOST_WORDS)
    return dict(zip(first["word"].to_pylist(), first["records_sum"].to_pylist(), strict=True))


def _count(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    counts: Counter[str] = Counter()
    for batch in batches:
        for text in batch.column(0).to_pylist():
            counts.update(set(WORD.findall((text or "").casefold())))
    yield pa.RecordBatch.from_pydict(
        {"word": list(counts), "records": list(counts.values())}, schema=_COUNTED
    )
