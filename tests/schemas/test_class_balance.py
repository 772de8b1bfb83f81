"""Class balance in a manifest has to add up, even if somebody altered and resealed it."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from common.errors import DataError
from common.pages.page import Table, Text
from schemas.class_balance import ClassBalance
from schemas.class_mix import class_shares, section
from schemas.manifest import Manifest, Shard, SplitContent, parse
from tests.schemas.test_manifest import content, provenance


def shard(name: str, row_groups: list[int], taken: list[int] | None) -> Shard:
    return Shard(
        path=name,
        bytes=10,
        rows=sum(row_groups),
        row_groups=row_groups,
        row_group_crc32=[0] * len(row_groups),
        epoch_row_groups=taken,
        sha256="a" * 64,
    )


def oversampled(**changes: Any) -> SplitContent:
    """Return five rows of `a`, taken once, and two of `b`, taken twice: nine rows."""
    values: dict[str, Any] = {
        "rows": 7,
        "key_sums": (1, 2),
        "label_counts": {"a": 5, "b": 2},
        "balance": ClassBalance(policy="oversample", repeats={"a": 1, "b": 2}),
        "epoch_rows": 9,
        "epoch_key_sums": (5, 6),
        "shards": [shard("x", [3, 2], [3, 3]), shard("y", [2], [3])],
    }
    return SplitContent(**{**values, **changes})


def taken_by(**times: int) -> ClassBalance:
    return ClassBalance(policy="oversample", repeats=times)


def taking(**times: int) -> ClassBalance:
    return ClassBalance(policy="where", repeats=times)


LEFT_OUT = {
    "balance": taking(a=1, b=0),
    "epoch_rows": 5,
    "shards": [shard("x", [3, 2], [3, 2]), shard("y", [2], [0])],
}


def weighing(**weights: float) -> ClassBalance:
    return ClassBalance(policy="weights", weights=weights)


PLAIN = [shard("x", [3, 2], None), shard("y", [2], None)]
ONCE = {"epoch_rows": 7, "epoch_key_sums": (1, 2), "shards": PLAIN}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch_rows": 10}, "9 rows by the classes of a split, 9 by its row groups, but 10 are stated"),
        ({"balance": taken_by(a=1, b=3)}, "11 rows by the classes"),
        ({"label_counts": {"a": 4, "b": 3}}, "10 rows by the classes"),
        ({"shards": [shard("x", [3, 2], [3, 4]), shard("y", [2], [3])]}, "10 by its row groups"),
        ({"shards": [shard("x", [3, 2], [3, 3]), shard("y", [2], None)]}, "the row groups of y cannot"),
        ({"shards": [shard("x", [3, 2], [4, 1]), shard("y", [2], [4])]}, "the row groups of x cannot"),
        ({"shards": [shard("x", [3, 2], [3]), shard("y", [2], [6])]}, "the row groups of x cannot"),
        ({"balance": taken_by(a=1)}, r"cannot have repeats for \['a'\]"),
        ({"balance": taken_by(a=1, b=2, c=1)}, "cannot have repeats"),
        ({"balance": taken_by(a=0, b=2)}, "at least once"),
        ({"balance": ClassBalance(policy="oversample")}, "cannot have repeats"),
        ({"balance": ClassBalance()}, "every row is taken once"),
        ({"balance": weighing(a=1.0, b=1.0)}, "every row is taken once"),
        ({**ONCE, "balance": weighing(a=1.0)}, "cannot have weights"),
        ({**ONCE, "balance": weighing(a=1.0, b=-1.0)}, "cannot have one of the weights"),
        ({**ONCE, "balance": weighing(a=1.0, b=float("nan"))}, "cannot have one of the weights"),
        ({**ONCE, "balance": ClassBalance(), "epoch_key_sums": (1, 3)}, "every row is taken once"),
        ({"rows": 8}, "do not have its 8 rows"),
        ({**LEFT_OUT, "balance": taking(a=2, b=0)}, "once an epoch or not at all"),
        ({**LEFT_OUT, "balance": taking(a=1)}, r"cannot have repeats for \['a'\]"),
        ({**LEFT_OUT, "balance": taking(a=1, b=1)}, "7 rows by the classes"),
        ({**LEFT_OUT, "balance": taken_by(a=1, b=1)}, "the row groups of y cannot"),
        ({**LEFT_OUT, "shards": PLAIN}, "the row groups of x cannot"),
        (
            {**LEFT_OUT, "shards": [shard("x", [3, 2], [4, 1]), shard("y", [2], [0])]},
            "the row groups of x cannot",
        ),
    ],
)
def test_numbers_that_do_not_belong_together_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        oversampled(**changes)


def test_numbers_that_belong_together_are_taken() -> None:
    assert oversampled().epoch_rows == 9
    assert oversampled(**ONCE, balance=weighing(a=0.5, b=2.25)).balance.weights["b"] == 2.25
    assert oversampled(**ONCE, balance=ClassBalance()).epoch_rows == 7
    assert oversampled(**LEFT_OUT).epoch_rows == 5


def sealed(folder: Path, split: SplitContent, name: str = "train") -> Manifest:
    return Manifest.seal(content(splits={name: split}), provenance(), 4, str(folder))


def test_altered_numbers_are_refused_sealed_again_or_not(tmp_path: Path) -> None:
    manifest = sealed(tmp_path, oversampled())
    location = str(tmp_path / "manifests" / "m")
    assert parse(manifest.to_json(), location) == manifest
    document = json.loads(manifest.to_json())
    document["splits"]["train"]["epoch_key_sums"][0] += 1  # only the rows themselves can reveal it
    with pytest.raises(DataError, match="m was altered"):
        parse(json.dumps(document).encode(), "m")
    lying = manifest.content.splits["train"].model_copy(update={"epoch_rows": 8})
    again = sealed(tmp_path, oversampled())
    altered = Manifest.seal(
        again.content.model_copy(update={"splits": {"train": lying}}), provenance(), 4, "d"
    )
    with pytest.raises(DataError, match=r"m is not a manifest of this product \(.*but 8 are stated"):
        parse(altered.to_json(), "m")


def test_the_splits_that_judge_a_model_cannot_be_balanced(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="the split test judges the model and cannot be balanced"):
        sealed(tmp_path, oversampled(), "test")


def rows_of(split: SplitContent) -> list[list[str]]:
    return [[c.text for c in row] for b in section(split).blocks if isinstance(b, Table) for row in b.cells]


def text_of(split: SplitContent) -> str:
    return " ".join(block.text for block in section(split).blocks if isinstance(block, Text))


def test_the_report_shows_the_classes_before_and_after() -> None:
    assert rows_of(oversampled()) == [
        ["a", "5", "71.4%", "1", "1.000", "5", "55.6%"],
        ["b", "2", "28.6%", "2", "1.000", "4", "44.4%"],
    ]
    assert "An epoch takes 9 rows of 7." in text_of(oversampled())
    assert "2.5 times as much as the smallest before, 1.2 times after" in text_of(oversampled())
    weighted = oversampled(**ONCE, balance=weighing(a=0.7, b=1.75))
    assert rows_of(weighted) == [
        ["a", "5", "71.4%", "1", "0.700", "4", "50.0%"],
        ["b", "2", "28.6%", "1", "1.750", "4", "50.0%"],
    ]
    assert "The policy is `weights`" in text_of(weighted)


def test_without_a_policy_the_report_says_so() -> None:
    plain = oversampled(**ONCE, balance=ClassBalance())
    assert "The policy is `none`" in text_of(plain)
    assert rows_of(plain) == []
    assert [one.effect for one in class_shares(plain)] == [5.0, 2.0]


def test_the_reports_say_which_rows_are_taken() -> None:
    split = oversampled(**LEFT_OUT)
    assert rows_of(split)[1] == ["b", "2", "28.6%", "0", "1.000", "0", "0.0%"]
    assert "An epoch takes 5 rows of 7." in text_of(split)
    assert "train.where" in text_of(split)
