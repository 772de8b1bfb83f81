"""Lengths that keep a share of all tokens, against their definition."""

import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from etl.encoders.lengths import keeping, rounded
from etl.figures.facts import Lengths, TokenFacts
from etl.stages.running import shown
from schemas.kept_tokens import KeptTokens
from tests.etl.example_summary import example_summary


@pytest.mark.parametrize("seed", range(5))
def test_the_smallest_length_is_found(seed: int) -> None:
    random = np.random.default_rng(seed)
    tokens = random.lognormal(3, 1.5, 500).astype(int) + seed % 2
    found = keeping((1, int(count)) for count in tokens)
    assert list(found) == ["50", "90", "99"]
    for percentage, length in found.items():
        wanted = int(percentage) * tokens.sum()
        assert 100 * np.minimum(tokens, length).sum() >= wanted > 100 * np.minimum(tokens, length - 1).sum()
    values, rows = np.unique(tokens, return_counts=True)
    assert keeping(zip(rows.tolist(), (values * rows).tolist(), strict=True)) == found


def test_texts_without_tokens_need_no_length() -> None:
    assert keeping([]) == keeping([(3, 0)]) == {"50": 0, "90": 0, "99": 0}
    assert keeping([(2, 7)]) == {"50": 2, "90": 4, "99": 4}  # rounded counts: 3.5 tokens each


def test_large_counts_are_rounded_to_a_thousandth(spark: SparkSession) -> None:
    counts = [0, 1, 1023, 1024, 1025, 2047, 2049, 1_000_001]
    frame = spark.createDataFrame([(count,) for count in counts], "tokens bigint")
    found = [row[0] for row in frame.select(rounded(sf.col("tokens"))).collect()]
    assert found == [0, 1, 1023, 1024, 1024, 2046, 2048, 999_424]


def test_what_a_length_keeps_is_told() -> None:
    keeps = {"50": 230, "90": 1_520, "99": 6_400}
    facts = TokenFacts(Lengths(10, 1000, 900), 128, 639, 3, keeps)
    kept = example_summary(tokens={"text": {"train": facts, "test": facts}}).kept_tokens()
    assert kept == {"text": KeptTokens(length=128, share=0.361, keeping=keeps)}
    assert kept["text"].heavily_cut
    assert kept["text"].told == (
        "length 128 keeps 36.1% of the tokens; it takes 230 to keep 50%, 1,520 for 90%, 6,400 for 99%"
    )
    assert (
        shown({"rows": 7, "tokens": 1000, "tokens_cut": 639})
        == "rows 7, tokens 1,000, tokens cut 639 (63.9%)"
    )
    assert shown({"rows": 7, "tokens": 0, "tokens_cut": 0}) == "rows 7, tokens 0, tokens cut 0"
