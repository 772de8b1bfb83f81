"""Duplicates among whole rows: equal in all columns, or within a tolerance in some and equal in the others."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ConfigurationError
from etl.duplicates.contents import SKETCH, content_of
from etl.duplicates.contents.rows import Rows, row_hash
from schemas.config import Configuration, load

TABLE = """
[dataset]
name = "table"
root = "lake"
[[source]]
format = "csv"
path = "in/*.csv"
[columns]
id = "id"
label = "kind"
[[feature]]
name = "x"
column = "x"
encode = "number"
[[feature]]
name = "y"
column = "y"
encode = "number"
[[feature]]
name = "day"
column = "day"
encode = "date"
[[feature]]
name = "town"
column = "town"
encode = "category"
"""
Row = tuple[str | None, str | None, str | None, str | None]


def configuration(folder: Path, *overrides: str) -> Configuration:
    file = folder / "table.toml"
    file.write_text(TABLE, encoding="utf-8")
    return load(file, overrides)


def sketched(content: Rows, rows: list[Row]) -> pa.Table:
    """Return the signatures of rows, one for each distinct one."""
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    batch = pa.RecordBatch.from_arrays(columns, names=list(content.columns))
    found = pa.Table.from_arrays(list(content.sketch(batch, set())), schema=SKETCH)
    return found.filter(found["sketch_owner"])


def clusters(content: Rows, rows: list[Row]) -> set[frozenset[Row]]:
    """Return the sets of rows that `content` finds to be near to each other."""
    by_hash = {row_hash(row): row for row in rows}
    found: dict[bytes, set[Row]] = {}
    for one in content.connect(sketched(content, rows)).to_pylist():
        found.setdefault(one["component"], set()).add(by_hash[one["content_hash"]])
    return {frozenset(rows) for rows in found.values()}


def rows_of(folder: Path, *overrides: str) -> Rows:
    found = content_of(configuration(folder, *overrides))
    assert isinstance(found, Rows)
    return found


NEAR = ("deduplicate.tolerance={x=0.1, day=1.0}",)


def test_a_data_set_without_text_compares_all_columns_but_id_and_label(tmp_path: Path) -> None:
    content = rows_of(tmp_path)
    assert content.columns == ["x", "y", "day", "town"]
    assert row_hash(("1", None)) != row_hash(("1", ""))
    assert row_hash(("12", "3")) != row_hash(("1", "23"))
    table = sketched(content, [("1", "2", None, "a"), ("1", "2", None, "a"), ("1", "2", None, "b")])
    assert len(table) == 2
    assert len(content.connect(table)) == 0


def test_rows_within_the_tolerance_are_near_where_all_else_is_equal(tmp_path: Path) -> None:
    content = rows_of(tmp_path, *NEAR)
    base: Row = ("1.0", "5", "2024-01-01", "a")
    near: list[Row] = [
        ("1.1", "5", "2024-01-01", "a"),  # just the tolerance, which has no exact binary form
        ("0.95", "5", "2024-01-02", "a"),
    ]
    others: list[Row] = [
        ("1.25", "5", "2024-01-01", "b"),
        ("1.0", "5.01", "2024-01-01", "a"),  # y has no tolerance
        (None, "5", "2024-01-01", "a"),
        ("0", "5", None, "a"),
        ("1.0", "5", "2024-01-09", "a"),
    ]
    assert clusters(content, [base, *near, *others]) == {frozenset([base, *near])}
    assert clusters(content, [(None, "5", "2024-01-01", "a"), (None, "5", "2024-01-02", "a")]) == {
        frozenset([(None, "5", "2024-01-01", "a"), (None, "5", "2024-01-02", "a")])
    }


def test_nearness_passes_on(tmp_path: Path) -> None:
    content = rows_of(tmp_path, *NEAR)
    chain: list[Row] = [(f"{n / 10}", "5", "2024-01-01", "a") for n in range(30)]
    assert clusters(content, chain) == {frozenset(chain)}


@pytest.mark.parametrize(
    ("numbers", "tolerance", "near"),
    [
        (("10000000000000000", "10000000000000002"), 1.5, False),
        (("10000000000000002", "10000000000000004"), 1.5, False),
        (("10000000000000000", "10000000000000002"), 2.0, True),
        (("1000000.1", "1000000.2"), 0.1, True),
        (("1000000.1", "1000000.200001"), 0.1, False),
    ],
)
def test_large_numbers_are_compared_as_small_ones_are(
    tmp_path: Path, numbers: tuple[str, str], tolerance: float, near: bool
) -> None:
    content = rows_of(tmp_path, f"deduplicate.tolerance={{x={tolerance}}}")
    rows: list[Row] = [(x, "5", None, "a") for x in numbers]
    assert clusters(content, rows) == ({frozenset(rows)} if near else set())


@given(st.lists(st.tuples(st.integers(-60, 60), st.integers(-60, 60)), min_size=2, max_size=40, unique=True))
def test_no_pair_is_missed_and_none_is_made_up(
    tmp_path_factory: pytest.TempPathFactory, points: list[tuple[int, int]]
) -> None:
    content = rows_of(tmp_path_factory.getbasetemp(), "deduplicate.tolerance={x=0.3, y=0.5}")
    rows: list[Row] = [(f"{x / 10}", f"{y / 10}", None, "a") for x, y in points]
    parents = list(range(len(rows)))
    for i, (x, y) in enumerate(points):
        for j, (other_x, other_y) in enumerate(points[:i]):
            if abs(x - other_x) <= 3 and abs(y - other_y) <= 5:
                parents = [parents[j] if p == parents[i] else p for p in parents]
    expected = {frozenset(r for r, p in zip(rows, parents, strict=True) if p == root) for root in parents}
    assert clusters(content, rows) == {one for one in expected if len(one) > 1}


@pytest.mark.parametrize("tolerance", ["{x=0.02}", "{x=0.5, y=0.5}"])
def test_a_crowded_cell_has_the_components_of_all_its_pairs(tmp_path: Path, tolerance: str) -> None:
    content = rows_of(tmp_path, f"deduplicate.tolerance={tolerance}")
    random = np.random.default_rng(0)
    points = random.normal(size=(400, 2)).round(3)
    limits: dict[str, Any] = dict(content.settings.tolerance)
    rows: list[Row] = [(str(x), str(y) if "y" in limits else "0", None, "a") for x, y in points.tolist()]
    from scipy.sparse.csgraph import connected_components

    apart = np.abs(points[:, None] - points[None])
    near = apart[..., 0] <= limits["x"] + 1e-12
    if "y" in limits:
        near &= apart[..., 1] <= limits["y"] + 1e-12
    _, label = connected_components(near, directed=False)
    expected = {frozenset(r for r, at in zip(rows, label, strict=True) if at == one) for one in set(label)}
    assert clusters(content, rows) == {one for one in expected if len(one) > 1}


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["deduplicate.tolerance={z=1.0}"], "deduplicate.tolerance names 'z', which is no column"),
        (["deduplicate.tolerance={town=1.0}"], "there are 'x', 'y', 'day'"),
        (["deduplicate.tolerance={x=0.0}"], "deduplicate.tolerance.x"),
        (
            ["deduplicate.tolerance={x=1.0}", "deduplicate.column=remark"],
            "duplicates are found by the column 'remark'",
        ),
    ],
)
def test_a_tolerance_that_cannot_be_kept_is_refused(tmp_path: Path, overrides: list[str], part: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        configuration(tmp_path, *overrides)
    assert part in str(refused.value)
