"""Personal data of every kind go in everywhere and come out nowhere: not where anything is said, shown or logged."""

import html
import json
import random
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.lake.log import open_table
from tests.etl.rules.personal_corpus import PLANTED
from tests.faults.pipeline_runs import PipelineFolder

KEY = "the-secret-key-of-the-pseudonyms"
CONFIGURATION = """
[dataset]
name = "example"
root = "{root}"
[[source]]
format = "jsonl"
path = "{files}/*.jsonl"
[[source]]
format = "csv"
path = "{files}/*.csv"
[columns]
id = "id"
label = "label"
group = "group"
[clean]
phones = {{ action = "pseudonym" }}
cards = {{ action = "drop" }}
national_ids = {{ countries = ["AR", "BR", "CL", "CO", "EC", "ES", "MX", "PE", "PY", "US"] }}
length = {{ maximum = 600 }}
[[feature]]
name = "tokens"
column = "text"
vocabulary = 300
length = 8
[[feature]]
name = "amount"
column = "amount"
encode = "number"
missing = "median"
invalid = "missing"
[quality]
max_quarantine_share = 1.0
max_filtered_share = 1.0
max_split_deviation = 1.0
max_class_deviation = 1.0
[[quality.expectation]]
type = "expect_column_value_lengths_to_be_between"
kwargs = {{ column = "group", min_value = 1 }}
"""
FAILING = """
[[quality.expectation]]
type = "expect_column_values_to_be_in_set"
kwargs = { column = "group", value_set = ["nobody"] }
[[quality.expectation]]
type = "expect_column_distinct_values_to_be_in_set"
kwargs = { column = "group", value_set = ["nobody"] }
"""


def words(rng: random.Random, count: int) -> str:
    return " ".join(f"word{rng.randrange(9000)}" for _ in range(count))


def plant(folder: Path) -> tuple[set[str], str]:
    """Writes files with three values of each kind in texts, ids, groups, columns of numbers and broken lines.

    The texts with them are published, copied and nearly copied, filtered, and quarantined. Returns the values, and the
    id of a record.
    """
    rng, values = random.Random(3), set[str]()
    lines: list[str] = []
    rows: list[str] = []

    def record(text: str, name: str, **more: object) -> str:
        return json.dumps(
            {"id": name, "label": rng.choice("xy"), "group": name, "text": text, "amount": 7} | more
        )

    for number, (kind, make) in enumerate(PLANTED.items()):
        for _ in range(3):
            before, value = make(rng)
            values.add(value)
            text = f"{words(rng, 6)} {before}{value}, {words(rng, 40)}"
            mail = f"{kind.replace('_', '')}.{number}.{len(lines)}@post.example.org"
            values.add(mail)
            lines += [
                record(text, mail),
                record(text, f"copy of {mail}"),
                record(f"{text} indeed", f"near {mail}"),
                record(f"{text} {words(rng, 80)}", f"long {mail}"),
                record(text, f"wrong {mail}")[:-9],  # cut off
                record(text, mail),  # an id once more
                json.dumps({"id": f"list {mail}", "label": [before + value], "group": mail, "text": text}),
                record(f"{words(rng, 30)} {kind}", f"number {mail}", amount=f"{before}{value} in all"),
            ]
            rows += [f'row {mail},x,{mail},"{text}",1', f"short {mail},{before}{value}"]
    (folder / "a.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (folder / "b.csv").write_text("id,label,group,text,amount\n" + "".join(f"{row}\n" for row in rows))
    return values, mail


def written_forms(value: str) -> set[str]:
    """A value as it stands, in HTML, JSON and addresses, and its digits alone where they are many."""
    forms = {value, html.escape(value), json.dumps(value)[1:-1], urllib.parse.quote(value)}
    bare = re.sub(r"[ .\-()+]", "", value)
    return forms | ({bare} if len(bare) >= 9 else set())


def leaks(content: str, values: set[str]) -> list[str]:
    return sorted(value for value in values if any(form in content for form in written_forms(value)))


def shown(folder: PipelineFolder) -> Iterator[Path]:
    """All files of a data set and its logs but the data themselves: reports, Data Docs, profiles, manifests, …"""
    root = Path(folder.layout.root)
    for file in [*root.rglob("*"), *(folder.folder / "logs").rglob("*")]:
        inside = file.relative_to(folder.folder).as_posix()
        if file.is_file() and not re.search(r"(bronze|silver|gold)/.*\.parquet(\.crc)?$", inside):
            yield file


@pytest.mark.thorough  # six processes; each rule and mask has tests of its own
def test_no_personal_value_is_said_shown_logged_or_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGLAKE_PSEUDONYM_KEY", KEY)
    files = tmp_path / "files"
    files.mkdir()
    values, somebody = plant(files)
    assert len(values) == 6 * len(PLANTED)
    folder = PipelineFolder(tmp_path / "run", files)
    conf = CONFIGURATION.format(root=folder.folder / "warehouse", files=files)
    folder.conf.write_text(conf + FAILING)
    status, said = folder.run()
    assert status == 3, said
    folder.conf.write_text(conf)
    outputs = {"failing": said}
    for command, flags in (
        ("pipeline", []),
        ("quarantine", ["--examples", "1000"]),
        ("history", []),
        ("verify", []),
        ("forget", ["--record", somebody]),
    ):
        status, outputs[command] = folder.run(*flags, command=command)
        assert status == 0, outputs[command]
    # The one that was forgotten was said by whoever forgot it.
    assert {name: there for name, text in outputs.items() if (there := leaks(text, values))} == {}

    found = {file.relative_to(folder.folder).as_posix(): file.read_bytes() for file in shown(folder)}
    for name in ("quality/report.html", "audit.jsonl"):
        assert f"warehouse/example/{name}" in found
    for part in (
        "quality/data_docs/",
        "quality/profiles/",
        "/manifests/",
        "_delta_log/",
        "/artifacts/",
        "logs/",
    ):
        assert any(part in name for name in found), part
    read = {name: content.decode("utf-8", "replace") for name, content in found.items()}
    assert {name: there for name, content in read.items() if (there := leaks(content, values))} == {}
    report = read["warehouse/example/quality/report.html"]
    for sign in ("&lt;email&gt;", "&lt;iban&gt;", "&lt;card&gt;", "&lt;id&gt;", "&lt;ip&gt;"):
        assert sign in report
    rules = {"email": "emails", "phone": "phones", "ip": "ip_addresses", "iban": "ibans", "card": "cards"}
    for kind in PLANTED:
        assert rules.get(kind, f"national_ids.{kind}") in report

    # The tables hold them where they came in, and ids and groups where they are those of records; nowhere else.
    for layer, name, columns in (
        ("silver", "fields", ["text", "amount", "filtered_by"]),
        ("bronze", "quarantine", ["reason", "detail"]),
    ):
        table = table_of(folder, layer, name)
        rows = table.select(columns).to_pylist()
        if name == "fields":  # a record that is dropped for what it holds keeps it, and gets no further
            rows = [row for row in rows if row["filtered_by"] != "cards"]
        assert leaks(repr(rows), values) == [], name
    texts = repr(table_of(folder, "silver", "fields")["text"].to_pylist())
    assert len(set(re.findall(r"<phone:[a-p]{20}>", texts))) == 3

    # And the key nowhere at all.
    assert [name for name, content in found.items() if KEY.encode() in content] == []
    assert [name for name, text in outputs.items() if KEY in text] == []
    for file in Path(folder.layout.root).rglob("*.parquet"):
        assert KEY not in repr(pq.read_table(file, partitioning=None).to_pylist()), file


def table_of(folder: PipelineFolder, layer: str, name: str) -> pa.Table:
    table = open_table(folder.layout.at(layer, name), folder.config.storage)
    assert table is not None
    return table.to_pyarrow_table()
