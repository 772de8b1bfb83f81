import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.duplicates import connecting, large_buckets, minhash, similarity
from etl.duplicates.connecting import Buckets, Ints
from etl.duplicates.large_buckets import connect_buckets
from etl.duplicates.minhash import Banding
from etl.duplicates.similarity import SimilarSets
from tests.etl import documents


def arrays(sets: list[set[int]]) -> tuple[Ints, Ints]:
    values = np.array([value for one in sets for value in sorted(one)], dtype=np.int64)
    return values, np.concatenate(([0], np.cumsum([len(one) for one in sets]))).astype(np.int64)


def found(labels: Ints) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


def one_bucket(count: int) -> Buckets:
    return Buckets.of(np.zeros(count, dtype=np.int64), np.arange(count))


def test_shared_hashes_are_numbered_in_their_order_whatever_their_signs() -> None:
    """For sorted rows of the matrix, scipy compares them without tables as wide as the matrix."""
    random_numbers = np.random.default_rng(1)
    known = random_numbers.integers(-(2**63), 2**63, 500, dtype=np.int64, endpoint=False)
    sets = [set(random_numbers.choice(known, 60, replace=False).tolist()) for _ in range(12)]
    matrix = SimilarSets(*arrays(sets), 0.8).matrix
    assert matrix.has_sorted_indices
    held = [value for one in sets for value in one]
    shared = sorted({value for value in held if held.count(value) > 1})
    assert shared[0] < 0 < shared[-1]
    assert matrix.shape == (12, len(shared))
    for row, one in enumerate(sets):
        begin, end = matrix.indptr[row : row + 2]
        assert [shared[code] for code in matrix.indices[begin:end]] == sorted(one & set(shared))


SETS = st.lists(st.sets(st.integers(0, 11), min_size=1, max_size=12), min_size=2, max_size=25)


@pytest.mark.parametrize("small_bucket", [64, 1])
@pytest.mark.parametrize("threshold", [0.5, 0.8, 1.0])
def test_all_similar_pairs_of_a_bucket_are_connected_and_no_others(
    threshold: float, small_bucket: int
) -> None:
    @given(SETS, st.lists(st.integers(0, 3), min_size=25, max_size=25))
    def check(sets: list[set[int]], signs: list[int]) -> None:
        connected = SimilarSets(*arrays(sets), threshold, np.array(signs[: len(sets)]))
        connect_buckets(connected, one_bucket(len(sets)))
        edges = [
            (i, j)
            for i in range(len(sets))
            for j in range(i)
            if documents.jaccard(sets[i], sets[j]) >= threshold
            and (signs[i] == signs[j] or 0 in (signs[i], signs[j]))
        ]
        assert found(connected.labels) == documents.partition(range(len(sets)), edges)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_buckets, "SMALL_BUCKET", small_bucket)
        patch.setattr(connecting, "PAIRS_AT_ONCE", 7)
        patch.setattr(similarity, "COMPARED_AT_ONCE", 50)
        check()


@given(SETS, st.data())
def test_only_members_of_a_bucket_are_compared(sets: list[set[int]], data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.integers(0, 3), min_size=len(sets), max_size=len(sets)))
    connected = SimilarSets(*arrays(sets), 0.6)
    connect_buckets(connected, Buckets.of(np.array(keys), np.arange(len(sets))))
    edges = [
        (i, j)
        for i in range(len(sets))
        for j in range(i)
        if keys[i] == keys[j] and documents.jaccard(sets[i], sets[j]) >= 0.6
    ]
    assert found(connected.labels) == documents.partition(range(len(sets)), edges)


def connect(texts: list[str]) -> tuple[SimilarSets, int]:
    """Sketch and connect distinct texts; also return the number of memberships in shared buckets."""
    sketches = minhash.sketch(pa.array(texts), 5, Banding(28, 5), set())
    assert sketches.sketch_owner.all()
    rows = np.repeat(np.arange(len(texts)), 28)
    buckets = Buckets.of(sketches.bands.ravel(), rows)
    sets = SimilarSets(sketches.values, sketches.offsets, 0.8)
    connect_buckets(sets, buckets)
    return sets, len(buckets.members)


def test_a_member_unlike_its_centre_is_compared_with_those_that_are_like_it() -> None:
    """A~B and B~C but not A~C, in one bucket, with each of them as the centre."""
    chain = [set(range(0, 20)), set(range(2, 22)), set(range(4, 24))]
    for order in ([0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 2, 1]):
        sets = SimilarSets(*arrays([chain[i] for i in order]), 0.8)
        connect_buckets(sets, one_bucket(3))
        assert found(sets.labels) == {frozenset({0, 1, 2})}


@pytest.mark.parametrize("name", documents.SKEWED)
def test_clusters_in_large_buckets_are_those_of_comparing_all_pairs(name: str) -> None:
    texts = list(dict.fromkeys(documents.SKEWED[name](random.Random(2), 700)))
    sets, _ = connect(texts)
    edges = documents.similar_pairs(texts)
    assert found(sets.labels) == documents.partition(range(len(texts)), edges)


def work(name: str, count: int) -> dict[str, int]:
    texts = list(dict.fromkeys(documents.SKEWED[name](random.Random(3), count)))
    sets, memberships = connect(texts)
    return {"listed": sets.listed, "compared": sets.compared, "memberships": memberships}


@pytest.mark.parametrize("name", [name for name in documents.SKEWED if name != "alternatives"])
def test_four_times_the_texts_in_large_buckets_are_four_times_the_work(name: str) -> None:
    """All pairs, 8 million, would be sixteen times as many."""
    once, four_times = work(name, 1_000), work(name, 4_000)
    assert four_times["memberships"] <= 4.5 * once["memberships"]
    assert four_times["compared"] <= max(4.5 * once["compared"], 8_000)
    assert four_times["listed"] <= max(4.5 * once["listed"], 8 * four_times["memberships"])


def test_thousands_of_edited_copies_take_one_comparison_each() -> None:
    rng = random.Random(2)
    texts = list(dict.fromkeys(documents.near_copies(rng, 5_000, 0.005, 0.02)))
    sets, _ = connect(texts)
    assert len(texts) > 4_000
    assert found(sets.labels) == {frozenset(range(len(texts)))}
    assert sets.compared <= 2 * len(texts)


def test_a_long_header_shared_by_thousands_does_not_make_all_pairs() -> None:
    rng = random.Random(4)
    header = documents.prose(rng, 130)
    bodies = [documents.prose(rng, 50) for _ in range(3_000)]
    bodies += [documents.edited(rng, body, 0.02) for body in bodies[:300]]
    sets, memberships = connect([" ".join(header + body) for body in bodies])
    # Each edited body belongs to its original, and nothing else belongs together.
    pairs = {frozenset({i, 3_000 + i}) for i in range(300)}
    assert found(sets.labels) == pairs | {frozenset({i}) for i in range(300, 3_000)}
    assert sets.compared <= memberships


def test_what_has_one_element_in_common_is_not_gathered_for_all() -> None:
    """Sets store only elements that two of them contain; the others count by their number alone."""
    sets = SimilarSets(*arrays([{1, 2, 3, 4, 5}, {1, 2, 3, 4, 6}, {7, 8}]), 0.6)
    assert sets.matrix.nnz == 8
    assert sets.similarities(np.array([0, 0]), np.array([1, 2])).tolist() == [4 / 6, 0.0]


@given(SETS)
def test_parities_differ_in_no_more_bits_than_sets_in_elements(sets: list[set[int]]) -> None:
    spread = [{hash((value, "spread")) for value in one} for one in sets]
    parities = similarity._parities(*arrays(spread))
    for i, one in enumerate(spread):
        for j, other in enumerate(spread):
            bits = sum(int(word).bit_count() for word in parities[i] ^ parities[j])
            assert bits <= len(one ^ other)
            assert (bits - len(one ^ other)) % 2 == 0


def test_ones_are_counted() -> None:
    words = np.array([0, 1, 2**63, 2**64 - 1, 0xF0F1], dtype=np.uint64)
    assert similarity._ones_in(words).tolist() == [0, 1, 1, 64, 9]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_labels_are_the_first_members_of_components(edges: list[tuple[int, int]]) -> None:
    sets = SimilarSets(*arrays([{0} for _ in range(31)]), 1.0)
    for one, other in edges:
        sets.connect(np.array([one]), np.array([other]))
    labels = sets.labels
    assert found(labels) == documents.partition(range(31), edges)
    assert all(label == min(np.flatnonzero(labels == label)) for label in labels)
