"""Similarity of test rows to their nearest training row, which the split by cluster is there to keep low."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.duplicates.contents import Highest, content_of
from etl.lake.tables import read_table
from schemas.config import Configuration
from schemas.tables import Layout

IDS_AT_ONCE = 20_000_000
"""Ids of the training split (64 bits of the hash of each, 160 MB) that may go to every executor."""

Ints = npt.NDArray[np.int64]


def leakage_sample(
    spark: SparkSession, config: Configuration, splits: DataFrame, rows: int = 200
) -> pd.DataFrame:
    """Return the highest similarity of `rows` distinct test contents to any training row (`Content.highest`).

    The rows are chosen by the hash of the record_id. `splits`: columns `record_id`,
    `split` of the published records. Columns: `record_id`, `highest_similarity` (0 to 1; 0 where nothing is shared or
    there is no training row), ordered by record_id. Exact copies of a test row lie in the same split, so that one of
    them stands for all.
    """
    layout = Layout.of(config)
    signatures = read_table(spark, layout.signatures).select("record_id", "signs", "sketch")
    # The sketches may be as large as the contents and stay where they are: only ids are joined.
    in_test = signatures.select("record_id").join(splits.where("split = 'test'"), "record_id", how="inner")
    chosen = in_test.orderBy(F.xxhash64("record_id"), "record_id").limit(rows).select("record_id")
    ids = [row["record_id"] for row in chosen.collect()]
    sample = signatures.where(F.col("record_id").isin(ids)).toArrow().combine_chunks().sort_by("record_id")
    in_train = splits.where("split = 'train'").select("record_id")
    if in_train.count() <= IDS_AT_ONCE:
        train, ids_of_train = (
            signatures.select("sketch", "signs", F.xxhash64("record_id")),
            hashes_of(in_train),
        )
    else:
        train = signatures.join(in_train, "record_id", how="left_semi").select("sketch", "signs")
        ids_of_train = None
    measure = content_of(config).highest(sample)
    highest = np.zeros(len(sample))
    if measure is not None:
        highest = highest_similarities(measure, len(sample), train, ids_of_train)
    return pd.DataFrame({"record_id": sample["record_id"].to_pylist(), "highest_similarity": highest})


def hashes_of(records: DataFrame) -> Ints:
    """Return the sorted 64-bit hashes of the ids in the column `record_id`, int64."""
    found: Ints = np.sort(records.select(F.xxhash64("record_id").alias("hash")).toArrow()["hash"].to_numpy())
    return found


def highest_similarities(
    measure: Highest, count: int, train: DataFrame, among: Ints | None = None
) -> npt.NDArray[np.float64]:
    """Return the highest similarity of each of a sample of `count` to any row of `train`; `measure` is for a batch.

    With `among` (sorted), only rows of `train` count whose third column, a hash, is in it.
    """
    wanted = None if among is None else train.sparkSession.sparkContext.broadcast(among)

    def compare(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        highest = np.zeros(count)
        for batch in batches:
            if wanted is not None:
                batch = batch.filter(pa.array(_are_in(batch.column(2).to_numpy(), wanted.value)))
            if len(batch):
                np.maximum(highest, measure(batch), out=highest)
        yield pa.RecordBatch.from_arrays(
            [pa.array(np.arange(count)), pa.array(highest)], ["row", "similarity"]
        )

    found = train.mapInArrow(compare, "row long, similarity double").groupBy("row").agg(F.max("similarity"))
    result = np.zeros(count)
    for row, similarity in found.collect():
        result[row] = similarity
    return result


def _are_in(values: Ints, ordered: Ints) -> npt.NDArray[np.bool_]:
    """Return a mask of the values that are among sorted others."""
    if not len(ordered):
        return np.zeros(len(values), dtype=bool)
    places = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    found: npt.NDArray[np.bool_] = ordered[places] == values
    return found
