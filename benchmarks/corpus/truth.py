"""Truth about planted duplicates: the exact Jaccard similarity of every two members of a family."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.corpus import plan as planned
from benchmarks.corpus.compose import Texts, compose, token_ids
from benchmarks.corpus.plan import FAMILIES, MOST_MEMBERS, OPERATIONS, REFORMED, Plan
from benchmarks.corpus.randomness import Ints, Words
from common.splitmix import GOLDEN, mix

SHINGLE = 5
FAMILIES_AT_ONCE = 256
MEMBER_BITS, FAMILY_BITS = 3, 8
PAIRS = pa.schema(
    [("left", pa.int64()), ("right", pa.int64()), ("jaccard", pa.float64()), ("kind", pa.string())]
)
"""Records in the order of the files; `kind`: exact, or the edit of one of the two."""


def pairs(plan: Plan) -> Iterator[pa.RecordBatch]:
    """Yield all pairs of members of a family, and of each member of the mega-cluster with its base."""
    for first in range(0, plan.families, FAMILIES_AT_ONCE):
        yield _family_pairs(plan, np.arange(first, min(first + FAMILIES_AT_ONCE, plan.families)))
    for first in range(1, plan.mega, FAMILIES_AT_ONCE):
        yield _mega_pairs(plan, np.arange(first, min(first + FAMILIES_AT_ONCE, plan.mega)))


def _family_pairs(plan: Plan, families: Ints) -> pa.RecordBatch:
    sizes = np.array([len(family) for family in FAMILIES])[families % len(FAMILIES)]
    group = np.repeat(np.arange(len(families)), sizes)
    member = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    slots = plan.slots_of_family(families[group], member)
    documents = plan.plan(slots).documents
    similar = similarities(compose(documents), group, member)
    records = np.full((len(families), MOST_MEMBERS), -1)
    records[group, member] = plan.records_of(slots)
    operation = np.zeros_like(records)
    operation[group, member] = documents.operation
    return _batch(records, operation, similar)


def _mega_pairs(plan: Plan, members: Ints) -> pa.RecordBatch:
    slots = np.stack([np.zeros_like(members), members], axis=1)
    documents = plan.plan(slots.ravel()).documents
    group = np.repeat(np.arange(len(members)), 2)
    similar = similarities(compose(documents), group, np.tile([0, 1], len(members)))
    records = np.full((len(members), MOST_MEMBERS), -1)
    records[:, :2] = plan.records_of(slots.ravel()).reshape(-1, 2)
    operation = np.zeros_like(records)
    operation[:, :2] = documents.operation.reshape(-1, 2)
    return _batch(records, operation, similar)


def _batch(records: Ints, operation: Ints, similar: npt.NDArray[np.float64]) -> pa.RecordBatch:
    found: list[pa.RecordBatch] = []
    names = np.array(OPERATIONS)
    for column, (one, two) in enumerate(combinations(range(MOST_MEMBERS), 2)):
        rows = np.flatnonzero((records[:, one] >= 0) & (records[:, two] >= 0))
        first, second = operation[rows, one], operation[rows, two]
        same = (first <= REFORMED) & (second <= REFORMED)
        kind = np.where(same, "exact", names[np.where(second > REFORMED, second, first)])
        left, right = records[rows, one], records[rows, two]
        values = (np.minimum(left, right), np.maximum(left, right), similar[rows, column], kind)
        found.append(pa.RecordBatch.from_arrays([pa.array(value) for value in values], schema=PAIRS))
    return pa.Table.from_batches(found).combine_chunks().to_batches()[0]


def similarities(texts: Texts, group: Ints, member: Ints) -> npt.NDArray[np.float64]:
    """Return the Jaccard similarities of the members of each group, a column for each two of MOST_MEMBERS.

    Columns are in the order of `combinations`. A shingle is represented by 53 bits of a hash, and compared within its
    group only.
    """
    hashes, document = shingle_hashes(texts)
    groups = int(np.max(group)) + 1
    keys = (group[document].astype(np.uint64) << np.uint64(64 - FAMILY_BITS)) | (
        hashes >> np.uint64(FAMILY_BITS + MEMBER_BITS) << np.uint64(MEMBER_BITS)
    )
    keys |= member[document].astype(np.uint64)
    keys.sort()
    shingles = keys >> np.uint64(MEMBER_BITS)
    first = np.flatnonzero(np.concatenate(([True], shingles[1:] != shingles[:-1])))
    bits = np.int64(1) << (keys & np.uint64((1 << MEMBER_BITS) - 1)).astype(np.int64)
    holders = np.bitwise_or.reduceat(bits, first)
    owner = (keys[first] >> np.uint64(64 - FAMILY_BITS)).astype(np.int64)
    masks = 1 << MOST_MEMBERS
    counts = np.bincount(owner * masks + holders, minlength=groups * masks).reshape(groups, masks)
    two = [(1 << a) | (1 << b) for a, b in combinations(range(MOST_MEMBERS), 2)]
    both = np.array([[(mask & pair) == pair for pair in two] for mask in range(masks)], dtype=np.int64)
    either = np.array([[(mask & pair) > 0 for pair in two] for mask in range(masks)], dtype=np.int64)
    found: npt.NDArray[np.float64] = (counts @ both) / np.maximum(counts @ either, 1)
    return found


def shingle_hashes(texts: Texts) -> tuple[Words, Ints]:
    """Return a hash for each window of SHINGLE tokens, and its document; shorter documents are one window."""
    tokens = mix((token_ids(texts).astype(np.uint64) + np.uint64(1)) * GOLDEN)
    lengths = np.diff(texts.offsets)
    windows = np.maximum(lengths - SHINGLE + 1, 1)
    document = np.repeat(np.arange(len(lengths)), windows)
    within = np.arange(len(document)) - np.repeat(np.cumsum(windows) - windows, windows)
    first = texts.offsets[:-1][document] + within
    found = np.zeros(len(document), dtype=np.uint64)
    for step in range(SHINGLE):
        has = within + step < lengths[document]
        found *= np.uint64(0xD1342543DE82EF95)
        found += np.where(has, tokens[np.minimum(first + step, len(tokens) - 1)], np.uint64(0))
    return mix(found), document


assert planned.MOST_MEMBERS <= 1 << MEMBER_BITS
assert FAMILIES_AT_ONCE <= 1 << FAMILY_BITS
