"""From a folder of nested JSON logs, in the layouts that log shippers leave behind, to a published version."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from etl.lake.tables import read_table
from etl.sources.columns import check_columns
from etl.versions.building import run_stages
from schemas.config import Configuration, load
from schemas.tables import Layout

CONFIGURATION = """
[dataset]
name = "logs"
root = "{root}/warehouse"
[[source]]
format = "jsonl"
path = "{root}/logs/**/*.json*"
[columns]
id = "event.id"
label = "log.level"
group = "host"
time = 'event."@timestamp"'
[columns.rename]
host = "hosts[0].host name"
[[feature]]
name = "tokens"
column = "event.message"
vocabulary = 300
length = 16
[[feature]]
name = "app"
column = "app"
encode = "category"
[[quality.expectation]]
type = "expect_column_values_to_be_in_set"
kwargs = {{ column = "log.level", value_set = ["3", "error", "true"] }}
"""
LEVELS: list[Any] = [3, "error", True]
FIRST_ID = 2**63
"""Beyond what a float holds exactly."""


def entry(number: int) -> dict[str, Any]:
    """Return a log entry of one of three levels: a number, a string and a truth value."""
    words = random.Random(number)
    message = f"request {number} of " + " ".join(words.choices("abcdefghijklmnopqrstuvwxyz", k=30))
    event = {"id": FIRST_ID + number, "@timestamp": f"2024-01-02T03:04:{number % 60:02}Z", "message": message}
    level = LEVELS[number % 3]
    # Some shippers write the path as one key.
    log = {"log.level": level} if number % 2 else {"log": {"level": level}}
    return {
        "event": event,
        **log,
        "hosts": [{"host name": f"web{number % 7}", "port": 80}],
        "more": {"n": [1]},
    }


def write_logs(folder: Path) -> None:
    """Write 90 entries as lines, compressed lines, an array, objects over several lines, and one object a file."""
    for app in ("app=web%2Fshop", "app=db"):
        (folder / app / "2024" / "01").mkdir(parents=True)
    web, db = folder / "app=web%2Fshop" / "2024" / "01", folder / "app=db" / "2024" / "01"
    entries = [entry(number) for number in range(90)]
    (web / "lines.jsonl").write_text("".join(json.dumps(one) + "\n" for one in entries[:20]))
    (web / "packed.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps(one) + "\n" for one in entries[20:40]).encode())
    )
    (web / "array.json").write_text(json.dumps(entries[40:60]))
    broken = json.dumps(entry(1000), indent=2).replace('"message": "', '"message": ')
    objects = [
        *(json.dumps(one, indent=2) for one in entries[60:75]),
        broken,
        json.dumps(entries[75], indent=2),
    ]
    (db / "objects.json").write_text("\n".join(objects))
    for number in range(76, 90):
        (db / f"one{number}.json").write_text(json.dumps(entries[number], indent=4))


def rows(spark: SparkSession, config: Configuration, table: str, *columns: str) -> list[tuple[Any, ...]]:
    frame = read_table(spark, getattr(Layout.of(config), table)).select(*columns)
    return sorted(tuple(row) for row in frame.collect())


@pytest.mark.thorough
def test_a_folder_of_nested_logs_is_published(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_logs(tmp_path / "logs")
    (tmp_path / "conf.toml").write_text(CONFIGURATION.format(root=tmp_path))
    monkeypatch.chdir(tmp_path)
    config = load(tmp_path / "conf.toml")
    check_columns(config)
    manifest, report = run_stages(spark, config, 0.0, again=False)

    assert manifest.content.counts["records_in"] == 91
    assert manifest.content.counts["published"] == 90
    assert manifest.classes() == ["3", "error", "true"]
    found = rows(
        spark, config, "fields", "record_id", "log_level", "host", "event_message", "app", "time_seconds"
    )
    assert [row[0] for row in found] == [str(FIRST_ID + number) for number in range(90)]
    for number, (_, level, host, message, app, seconds) in enumerate(found):
        assert level == str(LEVELS[number % 3]).lower()
        assert (host, message) == (f"web{number % 7}", entry(number)["event"]["message"])
        assert app == ("web/shop" if number < 60 else "db")
        assert seconds == 1704164640 + number % 60
    ((path, position, reason),) = rows(
        spark, config, "quarantine", "source_path", "source_position", "reason"
    )
    assert (path, reason) == ("app=db/2024/01/objects.json", "invalid_json")
    raw = (tmp_path / "logs" / path).read_bytes()[position:]
    assert raw.startswith(b'{\n  "event": {\n    "id": ' + str(FIRST_ID + 1000).encode())
    assert "event_message" in Path(report).read_text("utf-8")
