"""Scores of continuations beside how the texts really go on: BLEU, ROUGE-L, and what stands verbatim in training.

BLEU by sacrebleu (Post 2018) with its tokenizer 13a, ROUGE-L by rouge-score (Lin 2004) over the words of
common/words.py, which works in any script.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from common.words import has_unspaced, words

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
T = TypeVar("T")
ORDERS = 4
PARTS = 2 * ORDERS + 6
"""Sums of a continuation: BLEU's matches and n-grams by order, both lengths; ROUGE-L, 1; n-grams found and in all."""
AT_ONCE = 1_000
"""Texts decoded, or searched, together."""


@dataclass(frozen=True)
class Prompt:
    """Beginning of a held-back document, and how it goes on."""

    record_id: str
    tokens: Ints
    truth: Ints


def chosen_prompts(
    documents: Iterable[tuple[str, Ints]], keys: Mapping[str, bytes], count: int, tokens: int, most: int
) -> list[Prompt]:
    """Return up to `count` prompts from documents with at least as much again after `tokens` tokens.

    Those with the smallest keys are taken, which are hashes: the same on any machine, from anywhere in the split.
    """
    long = [(keys[name], name, ids) for name, ids in documents if len(ids) >= 2 * tokens]
    first = sorted(long, key=lambda one: one[0])[:count]
    return [Prompt(name, ids[:tokens], ids[tokens : tokens + most]) for _, name, ids in first]


def ngram_hashes(numbers: Hashes, size: int) -> Hashes:
    """Return a 64-bit hash of each run of `size` numbers: a polynomial in an odd constant, modulo 2^64."""
    if len(numbers) < size:
        return np.zeros(0, np.uint64)
    found = np.zeros(len(numbers) - size + 1, np.uint64)
    for place in range(size):
        found = found * np.uint64(0x9E3779B97F4A7C15) + numbers[place : len(numbers) - size + 1 + place]
    return found


class Verbatim:
    """Word n-grams of some texts, and which of them occur in others."""

    def __init__(self, texts: Sequence[str], size: int) -> None:
        self.size = size
        self.words = [words(text) for text in texts]
        names = sorted({word for of_text in self.words for word in of_text})
        self.numbers = {word: number for number, word in enumerate(names, start=1)}
        self.hashes = [self._hashes(of_text) for of_text in self.words]
        self.wanted = np.unique(np.concatenate([np.zeros(0, np.uint64), *self.hashes]))
        self.found = np.zeros(len(self.wanted), bool)

    def _hashes(self, of_text: Sequence[str]) -> Hashes:
        numbers = np.array([self.numbers.get(word, 0) for word in of_text], np.uint64)
        hashes = ngram_hashes(numbers, self.size)
        # A run with a word that none of the texts has, number 0, is none of theirs.
        strange = np.concatenate(([0], np.cumsum(numbers == 0)))
        whole = strange[self.size :] == strange[: -self.size] if len(hashes) else np.zeros(0, bool)
        found: Hashes = hashes[whole]
        return found

    def look_in(self, texts: Iterable[str]) -> None:
        """Look for the n-grams in further texts."""
        for several in _several(texts):
            hashes = np.concatenate([self._hashes(words(text)) for text in several])
            self.found |= np.isin(self.wanted, hashes)

    def counts(self) -> list[tuple[int, int]]:
        """Return for each text how many of its n-grams were found, and how many it has."""
        known = self.wanted[self.found]
        return [(int(np.isin(hashes, known).sum()), len(hashes)) for hashes in self.hashes]


def decoded(tokenizer: Tokenizer, documents: Iterable[Ints]) -> Iterator[str]:
    """Yield the texts of documents."""
    for several in _several(documents):
        yield from tokenizer.decode_batch([ids.tolist() for ids in several])


def _several(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield AT_ONCE items at a time."""
    left = iter(items)
    while several := list(itertools.islice(left, AT_ONCE)):
        yield several


class _Words:
    """Tokenizer of rouge-score."""

    @staticmethod
    def tokenize(text: str) -> list[str]:
        return words(text)


def sums(
    generated: Sequence[str], truths: Sequence[str], verbatim: Sequence[tuple[int, int]]
) -> npt.NDArray[np.float64]:
    """Return the sums behind the scores of each continuation: (texts, PARTS), as `figures` takes them added up."""
    from rouge_score.rouge_scorer import RougeScorer  # takes seconds
    from sacrebleu.metrics.bleu import BLEU

    bleu, rouge = BLEU(), RougeScorer(["rougeL"], tokenizer=_Words())
    # Its own tokenizer takes a sentence without white space for one word.
    of_words = BLEU(tokenize="none", force=True)
    rows = []
    for text, truth, (found, all_of_them) in zip(generated, truths, verbatim, strict=True):
        if has_unspaced(truth) or has_unspaced(text):
            score = of_words.corpus_score([" ".join(words(text))], [[" ".join(words(truth))]])
        else:
            score = bleu.corpus_score([text], [[truth]])
        fmeasure = rouge.score(truth, text)["rougeL"].fmeasure
        lengths = (score.sys_len, score.ref_len)
        rows.append([*score.counts, *score.totals, *lengths, fmeasure, 1, found, all_of_them])
    return np.array(rows, np.float64).reshape(-1, PARTS)


def figures(added: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    """Return BLEU (0 to 100), ROUGE-L (0 to 1) and the verbatim share from sums (n, PARTS): (n,) each.

    Without continuations they are NaN.
    """
    from sacrebleu.metrics.bleu import BLEU

    bleu = [
        BLEU.compute_bleu(
            one[:ORDERS].astype(int).tolist(),
            one[ORDERS : 2 * ORDERS].astype(int).tolist(),
            int(one[2 * ORDERS]),
            int(one[2 * ORDERS + 1]),
            smooth_method=BLEU().smooth_method,
        ).score
        if one[-3]
        else np.nan
        for one in added
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "bleu": np.array(bleu),
            "rouge_l": added[:, -4] / added[:, -3],
            # Too short a text has no n-gram that could stand anywhere.
            "verbatim_share": added[:, -2] / np.maximum(added[:, -1], 1),
        }
