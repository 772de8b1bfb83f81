"""From a corpus in Latin, Devanagari and scripts without white space to a published version."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from etl.duplicates.leakage import leakage_sample
from etl.lake.tables import read_table
from etl.versions.building import run_stages
from schemas.config import Configuration, load
from schemas.tables import Layout

CONFIGURATION = """
[dataset]
name = "scripts"
root = "{root}/warehouse"
[[source]]
format = "jsonl"
path = "{root}/files/*.jsonl"
[columns]
id = "id"
label = "label"
[deduplicate]
survivor = "first"
label_conflicts = "majority"
[[feature]]
name = "tokens"
column = "text"
vocabulary = 300
length = 16
[quality]
max_split_deviation = 1.0
max_class_deviation = 1.0
"""
LETTERS = {
    "latin": "abcdefghijklmnopqrstuvwxyzéüß",
    "hindi": "कखगघचछजझटठडढतथदधनपफबभमयरलवसह",
    "chinese": "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳云腾致雨露结为霜",
    "japanese": "あいうえおかきくけこさしすせそタチツテトナニヌネノ日本語東京",
    "thai": "กขคงจชซญดตถทนบปผฝพฟภมยรลวศสหอ",
}
DOCUMENTS = 12
PAIRS = {
    "plus": ("I learn C++ now", "I learn C# now"),
    "degrees": ("tonight it is -5 degrees", "tonight it is 5 degrees"),
    "thumbs": ("the new update 👍", "the new update 👎"),
    "verb": ("वह घर जाता है", "वह घर जाती है"),
    "question": ("你明天来吗？", "你明天来吗！"),
}


def document(script: str, number: int) -> str:
    """Return a text of 60 words, or of 140 characters in scripts without white space, some with Latin words in them."""
    rng, letters = random.Random(f"{script} {number}"), LETTERS[script]
    if script in ("latin", "hindi"):
        vowels = "" if script == "latin" else "ािीुूेो"
        words = (
            "".join(rng.choice(letters) + (vowels and rng.choice(vowels)) for _ in range(5))
            for _ in range(60)
        )
        return " ".join(words)
    text = "".join(rng.choices(letters, k=140))
    return text if number % 2 else f"{text[:50]}Spark 4 {text[50:]}"


def changed(script: str, text: str) -> str:
    """Return a near-copy: a word or a character in the middle is another."""
    if script in ("latin", "hindi"):
        words = text.split()
        return " ".join([*words[:30], words[0], *words[31:]])
    return text[:80] + next(letter for letter in LETTERS[script] if letter != text[80]) + text[81:]


def records() -> list[dict[str, Any]]:
    found = []
    for script in LETTERS:
        for number in range(DOCUMENTS):
            text, name = document(script, number), f"{script} {number:02}"
            label = f"kind {number % 2}"
            found.append({"id": name, "label": label, "text": text})
            if number % 3 == 0:
                found.append({"id": f"{name} exact", "label": label, "text": f"  {text.upper()} "})
                found.append({"id": f"{name} near", "label": label, "text": changed(script, text)})
    for name, pair in PAIRS.items():
        found += [{"id": f"{name} {i}", "label": f"kind {i}", "text": text} for i, text in enumerate(pair)]
    return found


def ledger_of(spark: SparkSession, config: Configuration) -> dict[str, Any]:
    return {row["record_id"]: row for row in read_table(spark, Layout.of(config).ledger).collect()}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


@pytest.mark.thorough
def test_a_corpus_in_several_scripts_is_published(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf.toml").write_text(CONFIGURATION.format(root=tmp_path))
    config = load(tmp_path / "conf.toml")
    write(tmp_path / "files" / "a.jsonl", records())
    manifest, report = run_stages(spark, config, 0.0, again=False)

    counts, copied = manifest.content.counts, len(LETTERS) * len(range(0, DOCUMENTS, 3))
    assert (counts["exact_duplicates"], counts["near_duplicates"]) == (copied, copied)
    assert counts["published"] == len(LETTERS) * DOCUMENTS + 2 * len(PAIRS)
    ledger = ledger_of(spark, config)
    for name, row in ledger.items():
        kind = name.split()[-1]
        copy = {"exact": "exact_duplicate", "near": "near_duplicate"}.get(kind, "kept")
        assert row["status"] == copy, name
        if copy != "kept":
            assert row["cluster_id"] == name.removesuffix(f" {kind}")
    assert "No copies or near-copies have different labels." in Path(report).read_text("utf-8")
    splits = (
        read_table(spark, Layout.of(config).ledger).where("split IS NOT NULL").select("record_id", "split")
    )
    assert leakage_sample(spark, config, splits)["highest_similarity"].max() < 0.8

    # Two later copies outvote the label of an earlier text, and none of them comes into another split.
    first, text = "chinese 01", document("chinese", 1)
    later = [{"id": f"later {i}", "label": "kind 0", "text": text} for i in range(2)]
    write(tmp_path / "files" / "b.jsonl", later)
    manifest, report = run_stages(spark, config, 0.0, again=False)
    assert manifest.content.counts["records_in"] == len(records()) + 2
    ledger = ledger_of(spark, config)
    assert ledger["later 0"]["status"] == "kept"
    assert [ledger[name]["status"] for name in (first, "later 1")] == ["exact_duplicate"] * 2
    assert {ledger[name]["cluster_id"] for name in (first, "later 0", "later 1")} == {"later 0"}
    assert "3 records in 1 cluster of copies and near-copies have different labels" in Path(report).read_text(
        "utf-8"
    )
