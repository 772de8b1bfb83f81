"""Class balance: loss weights or repeats from the rows of each class in the training split, or the classes it takes.

It only uses additions, products, quotients and square roots, which IEEE 754 rounds in one way: equal rows give equal
numbers, and so the same manifest root, on any machine.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from common.errors import UsageError
from schemas.class_balance import ClassBalance
from schemas.settings import Balance

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def of_train(
    encoded: "DataFrame", settings: Balance, classes: Sequence[str], taken: Sequence[str] = ()
) -> ClassBalance:
    """Return the balance of the training split of silver/encoded; the policy `none` counts nothing.

    `taken` are the classes of `train.where`. Raises UsageError as `taking` does.
    """
    if settings.policy == "none" and not taken:
        return ClassBalance()
    counted = encoded.where("split = 'train'").groupBy("label_index").count().collect()
    by_index = {row["label_index"]: row["count"] for row in counted}
    counts = {name: by_index.get(index, 0) for index, name in enumerate(classes)}
    return taking(counts, taken) if taken else balanced(counts, settings)


def taking(counts: Mapping[str, int], taken: Sequence[str]) -> ClassBalance:
    """Take the rows of some classes once an epoch, and no others.

    Raises UsageError for a class that is not in the data, and where no row would be left.
    """
    unknown = [name for name in taken if name not in counts]
    if unknown:
        raise UsageError(
            f"train.where names the class {unknown[0]!r}, which no published record has: correct it; there are "
            f"{', '.join(map(repr, counts))}"
        )
    if not any(counts[name] for name in taken):
        raise UsageError(
            f"train.where takes no row: the training split has none of the class {', '.join(map(repr, taken))}"
        )
    return ClassBalance(policy="where", repeats={name: int(name in taken) for name in counts})


def balanced(counts: Mapping[str, int], settings: Balance) -> ClassBalance:
    """Apply a policy to the rows of each class."""
    if settings.policy == "weights":
        return ClassBalance(policy="weights", weights=weights(counts, settings.strength == "square_root"))
    if settings.policy == "oversample":
        return ClassBalance(policy="oversample", repeats=repeats(counts, settings.most))
    return ClassBalance()


def weights(counts: Mapping[str, int], square_root: bool = False) -> dict[str, float]:
    """Return weights by class in inverse proportion to its rows, or to their square root; 1 on average over all rows.

    A class without rows weighs 0.
    """
    rows = sum(counts.values())
    commonness = {
        name: math.sqrt(count) if square_root else float(count) for name, count in counts.items() if count
    }
    # The sum over all rows of 1 / commonness.
    total = math.fsum(math.sqrt(counts[name]) if square_root else 1.0 for name in commonness)
    return {name: rows / (commonness[name] * total) if counts[name] else 0.0 for name in counts}


def repeats(counts: Mapping[str, int], most: int) -> dict[str, int]:
    """Return the repeats of each row in an epoch, by class.

    They bring the class nearest to the rows of the largest one, between 1 and `most`; on a tie the smaller number.
    """
    largest = max(counts.values(), default=0)
    found = {}
    for name, count in counts.items():
        times, rest = divmod(largest, count) if count else (1, 0)
        found[name] = min(most, times + (2 * rest > count))
    return found


def by_index(balance: ClassBalance, classes: Sequence[str]) -> list[int] | None:
    """Return the repeats by label index, for the writer of the shards; None: each row once."""
    return [balance.repeats[name] for name in classes] if balance.repeats else None
