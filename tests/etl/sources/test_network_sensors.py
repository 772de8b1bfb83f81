"""Files of network sensors: a connection log of Zeek and the events of Suricata, with typed columns and times."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from etl.normalisers import ColumnNormaliser
from etl.sources.files.pieces import list_pieces
from etl.sources.reading import QUARANTINE, RECORD, Reader
from schemas.config import Configuration

FIELDS = {
    "ts": "time",
    "uid": "string",
    "id.orig_h": "addr",
    "id.orig_p": "port",
    "id.resp_h": "addr",
    "id.resp_p": "port",
    "proto": "enum",
    "service": "string",
    "duration": "interval",
    "orig_bytes": "count",
    "conn_state": "string",
    "local_orig": "bool",
    "history": "string",
    "tunnel_parents": "set[string]",
}
BEGAN = 1714521600  # 2024-05-01


def zeek_log(rows: int) -> str:
    """Return a connection log; every third connection has neither service nor duration nor bytes."""
    rng = random.Random(1)
    lines = [
        "#separator \\x09",
        "#set_separator\t,",
        "#empty_field\t(empty)",
        "#unset_field\t-",
        "#path\tconn",
        "\t".join(["#fields", *FIELDS]),
        "\t".join(["#types", *FIELDS.values()]),
    ]
    for n in range(rows):
        known = n % 3 != 0
        ends = [f"10.0.0.{rng.randint(1, 9)}", str(40_000 + n), "192.0.2.7", "443"]
        size = [f"{n}.250000", str(n * 1000)] if known else ["-", "-"]
        service = "ssl" if known else "-"
        state = ["SF" if known else "S0", "T" if n % 2 else "F", "ShADad", "(empty)"]
        lines.append("\t".join([f"{BEGAN + n}.500000", f"C{n}", *ends, "tcp", service, *size, *state]))
    return "\n".join([*lines, "#close\t2024-05-01-01-00-00", ""])


def eve_events(rows: int) -> str:
    """Return Suricata's events in turn: a flow, a query to the DNS and an alert with its signature."""
    events: list[dict[str, Any]] = []
    for n in range(rows):
        kind = ("flow", "dns", "alert")[n % 3]
        event: dict[str, Any] = {
            "timestamp": f"2024-05-01T02:00:{n:02d}.500000+0200",
            "flow_id": 1_000_000_000_000_000 + n,
            "event_type": kind,
            "src_ip": "10.0.0.1",
            "proto": "TCP",
        }
        if kind == "flow":
            event["flow"] = {
                "bytes_toserver": n * 100,
                "alerted": False,
                "start": "2024-05-01T00:00:00.25+0000",
            }
        elif kind == "dns":
            event["dns"] = {"type": "query", "rrname": "example.org", "answers": [{"rdata": "192.0.2.1"}]}
        else:
            event["alert"] = {"signature": "ET SCAN probe", "severity": 2, "metadata": {"tag": ["a", "b"]}}
            event["flow"] = {"bytes_toserver": 7}
        events.append(event)
    return "".join(json.dumps(event) + "\n" for event in events)


def number(name: str, **settings: Any) -> dict[str, Any]:
    return {"name": name.replace(".", "_"), "column": name, "encode": "number", **settings}


def read(
    tmp_path: Path, kind: str, columns: dict[str, str], typed: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the accepted records with their typed columns as `clean` normalises them, and the quarantined rows."""
    config = Configuration.model_validate(
        {
            "dataset": {"name": "example", "root": str(tmp_path / "warehouse")},
            "source": [{"format": kind, "path": f"{tmp_path}/*"}],
            "columns": columns,
            "feature": [{"name": "tokens", "column": "proto"}, *typed],
        }
    )
    rows = pa.Table.from_batches(Reader(config).batches(0, list_pieces(config)))
    records = rows.filter(pc.equal(rows["kind"], RECORD))
    table = {"id": records["record_id"].to_pylist(), "time": records["time_seconds"].to_pylist()}
    normalisers = {feature.column: ColumnNormaliser(feature) for feature in config.typed_features()}
    for place, name in enumerate(config.table_columns()):
        values = records[f"column_{place}"].combine_chunks()
        if name in normalisers:
            found = normalisers[name](values)
            assert not found.invalid.any()
            values = found.values
        table[config.columns.in_files(name)] = values.to_pylist()
    quarantined = rows.filter(pc.equal(rows["kind"], QUARANTINE)).to_pylist()
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)], quarantined


def test_connections_of_zeek_have_typed_columns(tmp_path: Path) -> None:
    (tmp_path / "conn.log").write_text(zeek_log(30))
    typed = [
        number("duration", missing="constant", fill=0.0),
        number("orig_bytes", missing="median"),
        number("id.resp_p"),
        {"name": "service", "column": "service", "encode": "category"},
        {"name": "local", "column": "local_orig", "encode": "boolean"},
    ]
    columns = {"id": "uid", "label": "conn_state", "group": "id.orig_h", "time": "ts"}
    records, quarantined = read(tmp_path, "zeek", columns, typed)
    assert not quarantined
    assert len(records) == 30
    assert Counter(record["conn_state"] for record in records) == {"SF": 20, "S0": 10}
    expected = {"id": "C1", "time": BEGAN + 1.5, "duration": "1.25", "orig_bytes": "1000", "id.resp_p": "443"}
    expected |= {"service": "ssl", "local_orig": "true", "proto": "tcp"}
    assert records[1].items() >= expected.items()
    assert records[0].items() >= {"id": "C0", "duration": None, "orig_bytes": None, "service": None}.items()


def test_events_of_suricata_have_typed_columns_by_path(tmp_path: Path) -> None:
    (tmp_path / "eve.json").write_text(eve_events(30))
    typed = [
        number("flow.bytes_toserver", missing="constant", fill=0.0),
        number("alert.severity", missing="constant", fill=0.0),
        {"name": "query", "column": "dns.type", "encode": "category"},
        {"name": "answer", "column": "dns.answers[0].rdata", "encode": "category"},
        {"name": "alerted", "column": "flow.alerted", "encode": "boolean", "missing": "mode"},
        {"name": "start", "column": "flow.start", "encode": "date", "missing": "constant", "fill": 0.0},
    ]
    columns = {"id": "flow_id", "label": "event_type", "group": "src_ip", "time": "timestamp"}
    records, quarantined = read(tmp_path, "jsonl", columns, typed)
    assert not quarantined
    assert [record["event_type"] for record in records[:3]] == ["flow", "dns", "alert"]
    flow, query, alert = records[3:6]
    assert flow["id"] == "1000000000000003"
    assert flow["time"] == BEGAN + 3.5
    paths = [
        "flow.bytes_toserver",
        "flow.alerted",
        "flow.start",
        "dns.type",
        "dns.answers[0].rdata",
        "alert.severity",
    ]
    assert [flow[path] for path in paths] == ["300", "false", "2024-05-01T00:00:00.250000Z", None, None, None]
    assert [query[path] for path in paths] == [None, None, None, "query", "192.0.2.1", None]
    assert [alert[path] for path in paths] == ["7", None, None, None, None, "2"]


def test_an_event_without_a_nested_label_is_quarantined(tmp_path: Path) -> None:
    (tmp_path / "eve.json").write_text(eve_events(3))
    columns = {"id": "flow_id", "label": "alert.signature", "time": "timestamp"}
    records, quarantined = read(tmp_path, "jsonl", columns, [number("flow.bytes_toserver", missing="median")])
    assert [record["alert.signature"] for record in records] == ["ET SCAN probe"]
    assert [row["reason"] for row in quarantined] == ["missing_column"] * 2
    assert "'alert.signature' is missing" in quarantined[0]["detail"]
