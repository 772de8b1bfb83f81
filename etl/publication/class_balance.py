"""Class balance: from the rows of each class in the training split to what they weigh, or how often each is taken.

Only additions, products, quotients and square roots occur, which IEEE 754 rounds in one way: the same rows give the
same numbers, and so the same manifest root, on any machine.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from schemas.class_balance import ClassBalance
from schemas.settings import Balance

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def of_train(encoded: "DataFrame", settings: Balance, classes: Sequence[str]) -> ClassBalance:
    """Return the balance of the training split of silver/encoded; with the policy `none` nothing is counted for it."""
    if settings.policy == "none":
        return ClassBalance()
    counted = encoded.where("split = 'train'").groupBy("label_index").count().collect()
    by_index = {row["label_index"]: row["count"] for row in counted}
    return balanced({name: by_index.get(index, 0) for index, name in enumerate(classes)}, settings)


def balanced(counts: Mapping[str, int], settings: Balance) -> ClassBalance:
    """What a policy comes to where each class has so many rows."""
    if settings.policy == "weights":
        return ClassBalance(policy="weights", weights=weights(counts, settings.strength == "square_root"))
    if settings.policy == "oversample":
        return ClassBalance(policy="oversample", taken=times_taken(counts, settings.most))
    return ClassBalance()


def weights(counts: Mapping[str, int], square_root: bool = False) -> dict[str, float]:
    """By class: in inverse proportion to its rows, or to their square root; 1 on average over all rows.

    A class without rows weighs 0.
    """
    rows = sum(counts.values())
    commonness = {
        name: math.sqrt(count) if square_root else float(count) for name, count in counts.items() if count
    }
    # The sum over all rows of 1 / commonness.
    total = math.fsum(math.sqrt(counts[name]) if square_root else 1.0 for name in commonness)
    return {name: rows / (commonness[name] * total) if counts[name] else 0.0 for name in counts}


def times_taken(counts: Mapping[str, int], most: int) -> dict[str, int]:
    """By class how often each of its rows is taken in an epoch.

    So often that the class comes nearest to the rows of the largest one, at least once and at most `most` times; of
    two that are equally near the smaller.
    """
    largest = max(counts.values(), default=0)
    taken = {}
    for name, count in counts.items():
        times, rest = divmod(largest, count) if count else (1, 0)
        taken[name] = min(most, times + (2 * rest > count))
    return taken


def by_index(balance: ClassBalance, classes: Sequence[str]) -> list[int] | None:
    """How often rows are taken, by label index, for whoever writes the shards; None: each once."""
    return [balance.taken[name] for name in classes] if balance.taken else None
