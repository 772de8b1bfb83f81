"""N-gram language model over token ids: interpolated, with modified Kneser-Ney smoothing.

Three discounts an order (Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling"),
from the counts of counts; the orders below the highest count different predecessors (Kneser and Ney 1995). nltk.lm has
the same without the three discounts, and takes minutes for what numpy does in seconds.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
USUAL = 0.75
"""Discount where the data give none."""
NONE = -1
"""Number of an n-gram that does not occur."""


@dataclass(frozen=True)
class Order:
    """N-grams of one length, numbered by the number of their beginning and their last token."""

    keys: Ints
    """(n-grams,), ascending: number of the n-gram without its last token × vocabulary + that token."""
    counts: Ints
    """(n-grams,): occurrences; below the highest order, different tokens before."""
    totals: Ints
    """(beginnings,): sum of the counts of the n-grams with this beginning."""
    left: Floats
    """(beginnings,): share of the probability that is left for lower orders."""
    discounts: Floats
    """(4,): what is taken off counts of 0, 1, 2, and 3 and more."""

    def find(self, keys: Ints) -> Ints:
        """Return the numbers of n-grams by key; NONE for those that do not occur, and for negative keys."""
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        found: Ints = np.where(self.keys[places] == keys, places, NONE)
        return found

    def mixed(self, lower: Floats, beginnings: Ints, counts: Ints) -> Floats:
        """Return probabilities from those of the lower order; `lower` where the beginning does not occur."""
        known = (beginnings != NONE) & (self.totals[beginnings] > 0)
        totals = np.where(known, self.totals[beginnings], 1)
        kept = np.maximum(counts - self.discounts[np.minimum(counts, 3)], 0) / totals
        return np.where(known, kept + self.left[beginnings] * lower, lower)


class KneserNey:
    """Probabilities of tokens after those before them in the row; token 0, the padding, has none."""

    def __init__(self, stream: Ints, vocabulary: int, order: int, separator: int) -> None:
        """Count the n-grams of `stream`, documents with a separator after each, which begins after a separator."""
        self.vocabulary, self.separator = vocabulary, separator
        tokens = np.concatenate((np.full(order, separator), stream))
        numbers, uniques = [np.zeros(len(tokens), np.int64)], []
        for length in range(1, order + 1):
            # What ends one token before; no token does anywhere.
            beginnings = np.concatenate(([NONE], numbers[-1][:-1])) if length > 1 else numbers[0]
            keys = np.where(beginnings == NONE, NONE, beginnings * vocabulary + tokens)
            found, places = np.unique(keys[keys >= 0], return_inverse=True)
            of_tokens = np.full(len(tokens), NONE)
            of_tokens[keys >= 0] = places
            numbers.append(of_tokens)
            uniques.append(found)
        self.orders = []
        for length in range(1, order + 1):
            mine = numbers[length]
            if length == order:
                counts = np.bincount(mine[order:], minlength=len(uniques[length - 1]))
            else:
                longer = numbers[length + 1]
                _, one_of_each = np.unique(longer[longer != NONE], return_index=True)
                suffixes = mine[longer != NONE][one_of_each]
                counts = np.bincount(suffixes, minlength=len(uniques[length - 1]))
            parents = len(uniques[length - 2]) if length > 1 else 1
            self.orders.append(_order(uniques[length - 1], counts, vocabulary, parents))

    def nats(self, rows: Ints) -> Floats:
        """Return the loss of each token of rows, (rows, length) both, given those before it in the row.

        A row is read as if a separator stood before it; padding loses 0.
        """
        found = np.full(rows.shape, 1 / (self.vocabulary - 1))
        given = np.concatenate((np.full((len(rows), 1), self.separator), rows[:, :-1]), axis=1)
        beginnings = np.zeros(
            rows.shape, np.int64
        )  # of the n-grams that end with each token, here of no token
        for length, order in enumerate(self.orders, start=1):
            places = np.where(beginnings == NONE, NONE, order.find(beginnings * self.vocabulary + rows))
            counts = np.where(places == NONE, 0, order.counts[places])
            found = order.mixed(found, beginnings, counts)
            if length < len(self.orders):
                beginnings = self._of_length(given, length)
        losses: Floats = np.where(rows == 0, 0.0, -np.log(found))
        return losses

    def _of_length(self, given: Ints, length: int) -> Ints:
        """Return the numbers of the `length` tokens of `given` that end at each place; NONE where they do not occur."""
        found = np.zeros(given.shape, np.int64)
        for number, order in enumerate(self.orders[:length]):
            back = length - 1 - number
            tokens = np.full(given.shape, -1, np.int64)
            tokens[:, back:] = given[:, : given.shape[1] - back]
            keys = np.where((found == NONE) | (tokens < 0), NONE, found * self.vocabulary + tokens)
            found = order.find(keys)
        return found

    def next_token(self, given: list[int]) -> Floats:
        """Return the probability of each token, (vocabulary,), after these."""
        found = np.full(self.vocabulary, 1 / (self.vocabulary - 1))
        found[0] = 0.0
        for length, order in enumerate(self.orders):
            if length > len(given):
                break
            beginning = 0
            for shorter, token in zip(self.orders, given[len(given) - length :], strict=False):
                beginning = int(shorter.find(np.array([beginning * self.vocabulary + token]))[0])
                if beginning == NONE:
                    return found
            ends = np.searchsorted(order.keys, np.array([beginning, beginning + 1]) * self.vocabulary)
            counts = np.zeros(self.vocabulary, np.int64)
            counts[order.keys[ends[0] : ends[1]] % self.vocabulary] = order.counts[ends[0] : ends[1]]
            found = order.mixed(found, np.full(self.vocabulary, beginning), counts)
        return found

    def greedy(self, prompt: Ints, most: int) -> list[int]:
        """Continue a text with the likeliest token each time, until its end or for `most` tokens."""
        given, found = [self.separator, *prompt.tolist()], list[int]()
        for _ in range(most):
            token = int(np.argmax(self.next_token(given[-len(self.orders) :])))
            if token == self.separator:
                break
            given.append(token)
            found.append(token)
        return found


def _order(keys: Ints, counts: Ints, vocabulary: int, parents: int) -> Order:
    ones, twos, threes, fours = (int((counts == many).sum()) for many in (1, 2, 3, 4))
    share = ones / (ones + 2 * twos) if ones else 0.0
    discounts = [0.0]
    for many, of, after in ((1, ones, twos), (2, twos, threes), (3, threes, fours)):
        estimate = many - (many + 1) * share * after / of if of else 0.0
        # In tiny data the counts of counts may leave nothing for lower orders, or more than there is.
        discounts.append(estimate if 0 < estimate < many else USUAL)
    by_count = np.array(discounts)
    beginnings = keys // vocabulary
    totals = np.bincount(beginnings, counts, parents).astype(np.int64)
    taken = np.bincount(beginnings, np.minimum(by_count[np.minimum(counts, 3)], counts), parents)
    return Order(keys, counts, totals, taken / np.maximum(totals, 1), by_count)
