"""Class balance computed from the rows of each class: weights, and repeats of rows."""

import itertools
import math

import pytest

from common.errors import UsageError
from etl.publication.class_balance import balanced, by_index, repeats, taking, weights
from schemas.class_balance import ClassBalance
from schemas.settings import Balance

COUNTS = [
    {"a": 1},
    {"a": 100, "b": 100},
    {"a": 9000, "b": 900, "c": 77, "d": 1},
    {"rare": 3, "absent": 0, "common": 7},
    {"a": 2**40 + 1, "b": 3},
]


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize(("square_root", "power"), [(False, 1.0), (True, 0.5)])
def test_weights_follow_rarity_and_have_mean_one(
    counts: dict[str, int], square_root: bool, power: float
) -> None:
    found = weights(counts, square_root)
    rows = sum(counts.values())
    # As in the definition: proportional to count^-power, scaled to a mean of 1 over all rows.
    rarity = {name: count**-power if count else 0.0 for name, count in counts.items()}
    mean = sum(rarity[name] * counts[name] for name in counts) / rows
    assert found == pytest.approx({name: rarity[name] / mean for name in counts}, rel=1e-12)
    assert sum(found[name] * counts[name] for name in counts) / rows == pytest.approx(1.0)
    assert list(found) == list(counts)


def test_weights_do_not_depend_on_the_order_of_the_classes() -> None:
    counts = {str(number): 3 * number * number + 1 for number in range(50)}
    backwards = dict(reversed(counts.items()))
    for square_root in (False, True):
        assert weights(counts, square_root) == weights(backwards, square_root)


@pytest.mark.parametrize("most", [2, 3, 10, 1000])
def test_each_class_comes_as_near_to_the_largest_as_whole_times_allow(most: int) -> None:
    for common, rare, rarest in itertools.product((1, 7, 60, 100), (1, 2, 7, 39, 40, 41), (0, 1, 3)):
        counts = {"common": common, "rare": rare, "rarest": rarest}
        largest = max(counts.values())
        for name, times in repeats(counts, most).items():
            allowed = range(1, most + 1)
            nearest = min(allowed, key=lambda t: (abs(t * counts[name] - largest), t))
            assert times == (nearest if counts[name] else 1)


def test_the_cap_holds_and_the_largest_class_is_taken_once() -> None:
    assert repeats({"a": 9000, "b": 900, "c": 77, "d": 1}, 10) == {"a": 1, "b": 10, "c": 10, "d": 10}
    assert repeats({"a": 9000, "b": 900, "c": 77, "d": 1}, 2) == {"a": 1, "b": 2, "c": 2, "d": 2}
    assert repeats({"a": 100, "b": 40, "c": 41}, 10) == {
        "a": 1,
        "b": 2,
        "c": 2,
    }  # 80 and 120 are equally near to 100
    assert repeats({"a": 0, "b": 0}, 5) == {"a": 1, "b": 1}
    assert repeats({}, 5) == {}


def test_a_policy_fills_in_its_own_numbers_alone() -> None:
    counts = {"a": 90, "b": 10}
    assert balanced(counts, Balance()) == ClassBalance()
    assert balanced(counts, Balance(policy="oversample", most=4)) == ClassBalance(
        policy="oversample", repeats={"a": 1, "b": 4}
    )
    assert balanced(counts, Balance(policy="weights")).weights == pytest.approx({"a": 5 / 9, "b": 5.0})
    root = balanced(counts, Balance(policy="weights", strength="square_root"))
    assert root.weights["b"] / root.weights["a"] == pytest.approx(math.sqrt(9))
    assert root.repeats == {}


def test_the_writers_know_classes_by_their_index() -> None:
    balance = ClassBalance(policy="oversample", repeats={"b": 4, "a": 1})
    assert by_index(balance, ["a", "b"]) == [1, 4]
    assert by_index(ClassBalance(), ["a", "b"]) is None


def test_the_classes_that_training_takes_are_taken_once_and_the_others_not_at_all() -> None:
    counts = {"normal": 90, "fault": 10, "rare": 0}
    balance = taking(counts, ["normal", "rare"])
    assert balance == ClassBalance(policy="where", repeats={"normal": 1, "fault": 0, "rare": 1})
    assert by_index(balance, ["fault", "normal", "rare"]) == [0, 1, 1]
    with pytest.raises(
        UsageError, match=r"names the class 'Normal', which no published record has.*'normal', 'fault'"
    ):
        taking(counts, ["Normal"])
    with pytest.raises(UsageError, match="takes no row: the training split has none of the class 'rare'"):
        taking(counts, ["rare"])
