"""Spark's own: MinHashLSH of its machine learning library (`run`), and functions over arrays (`run_functions`)."""

from collections.abc import Sequence
from typing import Any

from pyspark.ml.feature import HashingTF, MinHashLSH, NGram, RegexTokenizer
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from benchmarks.minhash.kernels import HASHES, SHINGLE
from etl.spark.session import build_session

FEATURES = 1 << 20


def prepare(texts: Sequence[str]) -> DataFrame:
    spark = build_session("minhash", {"spark.master": "local[1]", "spark.driver.memory": "3g"})
    frame = spark.createDataFrame([(text,) for text in texts], "text string").repartition(4).cache()
    frame.count()
    return frame


def run(prepared: DataFrame) -> int:
    words = RegexTokenizer(inputCol="text", outputCol="words", pattern=r"[\p{L}\p{N}_]+", gaps=False)
    grams = NGram(n=SHINGLE, inputCol="words", outputCol="grams")
    counts = HashingTF(inputCol="grams", outputCol="vector", numFeatures=FEATURES, binary=True)
    frame: Any = prepared
    for stage in (words, grams, counts):
        frame = stage.transform(frame)
    frame = frame.where(F.size("grams") > 0)
    model = MinHashLSH(inputCol="vector", outputCol="hashes", numHashTables=HASHES, seed=1).fit(frame)
    return _consumed(model.transform(frame).select("hashes"))


def run_functions(prepared: DataFrame) -> int:
    words = F.regexp_extract_all(F.lower("text"), F.lit(r"([\p{L}\p{N}_]+)"))
    count = F.greatest(F.size("words") - F.lit(SHINGLE - 1), F.lit(1))
    shingles = F.transform(
        F.sequence(F.lit(1), count), lambda i: F.xxhash64(F.array_join(F.slice("words", i, SHINGLE), " "))
    )
    values = F.transform(
        F.sequence(F.lit(1), F.lit(HASHES)),
        lambda seed: F.array_min(F.transform("shingles", lambda one: F.xxhash64(one, seed))),
    )
    frame = prepared.select(words.alias("words")).select(shingles.alias("shingles"))
    return _consumed(frame.select(values.alias("hashes")))


def _consumed(frame: DataFrame) -> int:
    """Read every value: a count alone would skip them."""
    found = frame.agg(F.bit_xor(F.xxhash64("hashes")), F.count("*")).first()
    assert found is not None
    return int(found[1])
