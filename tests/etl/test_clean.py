"""The stage `clean` on hand-made records: what stands in silver/fields and in the first ledger."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from common.errors import ConfigurationError, UsageError
from etl.lake.facts import CommitFacts
from etl.lake.tables import read_table, write_table
from etl.rules.applying import CleanTexts, RuleSet, words_of_rows
from etl.runs.completion import fingerprint
from etl.runs.run import Run
from etl.spark.sampled_words import words_of
from etl.stages.clean import clean
from schemas import tables
from schemas.config import Configuration
from tests.etl.sources.source_files import configuration

COLUMNS = {"label": "label"}
SOURCE = {"format": "jsonl", "path": "*.jsonl"}


def written_records(spark: SparkSession, config: Configuration, texts: dict[str, str]) -> None:
    """bronze/records with these texts by id."""
    rows = [(key, 0, "a.jsonl", place, 9, None, "x", text) for place, (key, text) in enumerate(texts.items())]
    schema = tables.records_schema(config)
    facts = CommitFacts.by("ingest", config, fingerprint("ingest", config))
    frame = spark.createDataFrame(rows, tables.spark_schema(schema))
    write_table(frame, tables.Layout.of(config).records, schema, config, facts)
    source = {"source_index": 0, "source_path": "a.jsonl", "bytes": 9 * len(texts), "status": "read"}
    of_file = spark.createDataFrame(pa.Table.from_pylist([source], tables.sources_schema()))
    write_table(of_file, tables.Layout.of(config).sources, tables.sources_schema(), config, facts)


def test_rules_annotate_and_nothing_disappears(spark: SparkSession, tmp_path: Path) -> None:
    own = [
        {"name": "years", "pattern": r"\b\d{4}\b", "replace": "YEAR"},
        {"name": "lorem", "pattern": "lorem", "drop": True},
    ]
    config = configuration(tmp_path, [SOURCE], COLUMNS, {"regex": own, "length": {"minimum": 4}})
    texts = {
        "a": "plain text",
        "b": "<b>Hi</b>  me@example.org,\r\n650-253-0000 since 1999\u200b",
        "c": "lorem ..",
        "d": " *-* lorem",
        "e": "&nbsp;",
    }
    written_records(spark, config, texts)
    counts = clean(Run(spark, config))
    assert counts == {"records": 5, "kept": 2, "filtered": 3, "edited": 4}

    layout = tables.Layout.of(config)
    fields = read_table(spark, layout.fields)
    assert fields.columns == tables.fields_schema(config).names

    def row(key: str, place: int, text: str, filtered_by: str | None, **effects: int) -> tuple[Any, ...]:
        lengths = ([len(texts[key])], [len(text)])
        listed = list(effects.items())
        return (key, 0, "a.jsonl", place, None, "x", text, filtered_by, listed, *lengths, words_of([text]))

    assert [tuple(r) for r in fields.orderBy("record_id").collect()] == [
        row("a", 0, "plain text", None),
        row(
            "b",
            1,
            "Hi <email>,\n<phone> since YEAR",
            None,
            control_characters=2,
            markup=2,
            white_space=1,
            emails=1,
            phones=1,
            years=1,
        ),
        row("c", 2, "lorem ..", "lorem", lorem=1),
        row("d", 3, "*-* lorem", "lorem", white_space=1, lorem=1),
        row("e", 4, "", "length", markup=1, white_space=2, length=1),
    ]


def test_without_rules_texts_stay_as_they_are(spark: SparkSession, tmp_path: Path) -> None:
    config = configuration(tmp_path, [SOURCE], COLUMNS, {"rules": []})
    written_records(spark, config, {"a": " <b>  me@example.org\x00 "})
    assert clean(Run(spark, config)) == {"records": 1, "kept": 1, "filtered": 0, "edited": 0}
    fields = read_table(spark, tables.Layout.of(config).fields)
    assert [tuple(r) for r in fields.select("text", "filtered_by", "effects").collect()] == [
        (" <b>  me@example.org\x00 ", None, [])
    ]


def test_mistakes_are_said_before_anything_runs(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no table .*/bronze/records"):
        clean(Run(spark, configuration(tmp_path, [SOURCE], COLUMNS)))
    with pytest.raises(ConfigurationError, match="'ZZ', which is no region"):
        clean(Run(spark, configuration(tmp_path, [SOURCE], COLUMNS, {"phones": {"regions": ["ZZ"]}})))


def test_every_text_column_is_cleaned_and_any_can_filter(tmp_path: Path) -> None:
    config = configuration(tmp_path, [SOURCE], COLUMNS)
    two = config.model_copy(update={"deduplicate": config.deduplicate.model_copy(update={"column": "title"})})
    assert two.text_columns() == ["text", "title"]
    rules = RuleSet(two)
    assert rules.apply(["a  b", "c  d  e"]) == (["a b", "c d e"], None, [{"rule": "white_space", "count": 3}])
    assert rules.apply(["fine", "---"]) == (
        ["fine", "---"],
        "character_ratio",
        [{"rule": "character_ratio", "count": 1}],
    )


def test_lengths_before_and_after_and_the_words_of_sampled_records_are_noted(tmp_path: Path) -> None:
    config = configuration(tmp_path, [SOURCE], COLUMNS)
    two = config.model_copy(update={"deduplicate": config.deduplicate.model_copy(update={"column": "title"})})
    texts = ["a  b\u00e9 \U0001f600", "The fox, the 2 foxes", "", "1"]
    titles = ["Über", "", "--- ", "1"]
    columns = {
        "text": pa.array(texts, pa.string()),
        "title": pa.array(titles, pa.string()),
        "sampled_words": pa.array([True, True, False, True]),
    }
    schema = tables.fields_schema(two)
    given = {
        field.name: columns.get(field.name, pa.nulls(4, field.type))
        for field in schema
        if field.name not in ("filtered_by", "effects", "text_characters_read", "text_characters")
    }
    (cleaned,) = CleanTexts(two)(iter([pa.RecordBatch.from_pydict(given)]))
    assert cleaned.schema == schema
    found = cleaned.to_pydict()
    assert found["text_characters_read"] == [[7, 4], [20, 0], [0, 4], [1, 1]]
    assert found["text_characters"] == [[6, 4], [20, 0], [0, 3], [1, 1]]
    assert found["sampled_words"] == [["a", "bé", "über"], ["fox", "foxes", "the"], None, []]


def test_of_no_sampled_record_no_words_are_noted() -> None:
    texts = [pa.array(["one", "two"])]
    assert words_of_rows(texts, pa.array([False, False])).to_pylist() == [None, None]


def test_the_first_filter_gives_the_reason_and_all_are_noted(tmp_path: Path) -> None:
    rules = RuleSet(configuration(tmp_path, [SOURCE], COLUMNS, {"length": {"minimum": 9}}))
    effects = [{"rule": "length", "count": 1}, {"rule": "character_ratio", "count": 1}]
    assert rules.apply(["-+-"]) == (["-+-"], "length", effects)
