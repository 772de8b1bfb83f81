"""Remarks on small and lopsided data, from counts alone."""

import pytest

from schemas import lopsided
from schemas.kept_tokens import KeptTokens

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def rows(train: int, validation: int, test: int) -> dict[str, int]:
    return {"train": train, "validation": validation, "test": test}


@pytest.mark.parametrize("count", [(80, 10, 10), (8, 1, 1), (16, 2, 2), (9, 1, 1), (79, 11, 10), (81, 9, 10)])
def test_of_shares_that_are_kept_nothing_is_said(count: tuple[int, int, int]) -> None:
    assert lopsided.of_splits(rows(*count), SHARES) == []


def test_a_split_without_rows_is_named_with_what_follows() -> None:
    assert lopsided.of_splits(rows(4, 1, 0), SHARES) == [
        "the test split has no rows: no model can be judged on it"
    ]
    first, second = lopsided.of_splits(rows(1, 0, 0), SHARES)
    assert first.startswith("the validation split has no rows: training takes its last checkpoint")
    assert second.startswith("the test split has no rows")
    # Nobody asked for rows there.
    assert lopsided.of_splits(rows(5, 0, 0), {"train": 1.0, "validation": 0.0, "test": 0.0}) == []
    nothing = lopsided.of_splits(rows(0, 0, 0), SHARES)
    assert nothing[0] == "the train split has no rows: there is nothing to train on"


def test_a_share_that_cannot_be_kept_is_told() -> None:
    (sentence,) = lopsided.of_splits(rows(279, 11, 10), SHARES)
    assert (
        "but train 93.0%, validation 3.7%, test 3.3% instead of 80.0%, 10.0%, 10.0%, as where large clusters"
        in sentence
    )
    empty, apart = lopsided.of_splits(rows(90, 10, 0), SHARES)
    assert empty.startswith("the test split has no rows")
    assert "but train 90.0%, validation 10.0%, test 0.0% instead of" in apart


def test_one_class_alone_and_classes_that_a_split_lacks_are_told() -> None:
    assert lopsided.of_classes({"train": {"a": 4}, "test": {"a": 1}}) == [
        "all rows are of the class a: there is nothing to tell apart"
    ]
    counts = {"train": {"a": 3, "b": 0, "c": 2}, "validation": {"b": 1}, "test": {"a": 1, "b": 1, "c": 0}}
    assert lopsided.of_classes(counts) == [
        "1 of 3 classes has no row in the train split (b): no model can learn it",
        "1 of 3 classes has no row in the test split (c): nothing tells how well it is recognised",
    ]
    # Of a split without rows it is said already; without labels there are no classes.
    assert lopsided.of_classes({"train": {"a": 3, "b": 1}, "test": {}}) == []
    assert lopsided.of_classes({"train": {}, "test": {}}) == []


def test_few_of_many_classes_are_named_and_none_at_full_length() -> None:
    counts = {"train": {f"{number:05}{'x' * 900}": 1 for number in range(10_000)}, "test": {"00001": 1}}
    (sentence,) = [one for one in lopsided.of_classes(counts) if "test split" in one]
    assert sentence.startswith("10,000 of 10,001 classes have no row in the test split (00000")
    assert len(sentence) < 500


def test_texts_that_are_mostly_cut_away_are_told() -> None:
    keeps = {"50": 230, "90": 1_520, "99": 6_400}
    kept = {
        name: KeptTokens(length=128, share=share, keeping=keeps)
        for name, share in (("a", 0.361), ("b", 0.95))
    }
    assert lopsided.of_tokens(kept) == [
        "much of the texts is cut away: in the feature `a`, length 128 keeps 36.1% of the tokens; it takes 230 to keep "
        "50%, 1,520 for 90%, 6,400 for 99%"
    ]
