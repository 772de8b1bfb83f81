import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.duplicates import minhash, similarity
from etl.duplicates.minhash import Banding
from etl.duplicates.similarity import Buckets, SimilarSets
from tests.etl import documents


def arrays(sets: list[set[int]]) -> tuple[similarity.Ints, similarity.Ints]:
    values = np.array([value for one in sets for value in sorted(one)], dtype=np.int64)
    return values, np.concatenate(([0], np.cumsum([len(one) for one in sets]))).astype(np.int64)


def found(labels: similarity.Ints) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


def one_bucket(count: int) -> Buckets:
    return Buckets.of(np.zeros(count, dtype=np.int64), np.arange(count))


SETS = st.lists(st.sets(st.integers(0, 11), min_size=1, max_size=12), min_size=2, max_size=25)


@pytest.mark.parametrize("small_bucket", [64, 1])
@pytest.mark.parametrize("threshold", [0.5, 0.8, 1.0])
def test_all_similar_pairs_of_a_bucket_are_connected_and_no_others(
    threshold: float, small_bucket: int
) -> None:
    @given(SETS)
    def check(sets: list[set[int]]) -> None:
        connected = SimilarSets(*arrays(sets), threshold)
        connected.connect_buckets(one_bucket(len(sets)))
        pairs = ((i, j) for i in range(len(sets)) for j in range(i))
        edges = [pair for pair in pairs if documents.jaccard(sets[pair[0]], sets[pair[1]]) >= threshold]
        assert found(connected.labels) == documents.partition(range(len(sets)), edges)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "SMALL_BUCKET", small_bucket)
        patch.setattr(similarity, "PAIRS_AT_ONCE", 7)
        patch.setattr(similarity, "COMPARED_AT_ONCE", 50)
        check()


@given(SETS, st.data())
def test_only_members_of_a_bucket_are_compared(sets: list[set[int]], data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.integers(0, 3), min_size=len(sets), max_size=len(sets)))
    connected = SimilarSets(*arrays(sets), 0.6)
    connected.connect_buckets(Buckets.of(np.array(keys), np.arange(len(sets))))
    edges = [
        (i, j)
        for i in range(len(sets))
        for j in range(i)
        if keys[i] == keys[j] and documents.jaccard(sets[i], sets[j]) >= 0.6
    ]
    assert found(connected.labels) == documents.partition(range(len(sets)), edges)


def connect(texts: list[str]) -> tuple[SimilarSets, int]:
    """Sketches and connects distinct texts; also the number of memberships in shared buckets."""
    sketches = minhash.sketch(pa.array(texts), 5, Banding(28, 5), set())
    assert sketches.carrier.all()
    rows = np.repeat(np.arange(len(texts)), 28)
    buckets = Buckets.of(sketches.bands.ravel(), rows)
    sets = SimilarSets(sketches.values, sketches.offsets, 0.8)
    sets.connect_buckets(buckets)
    return sets, len(buckets.members)


def test_a_member_unlike_its_centre_is_compared_with_those_that_are_like_it() -> None:
    """A~B and B~C but not A~C, in one bucket, whichever of them is the centre."""
    chain = [set(range(0, 20)), set(range(2, 22)), set(range(4, 24))]
    for order in ([0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 2, 1]):
        sets = SimilarSets(*arrays([chain[i] for i in order]), 0.8)
        sets.connect_buckets(one_bucket(3))
        assert found(sets.labels) == {frozenset({0, 1, 2})}


def test_thousands_of_edited_copies_take_time_in_proportion() -> None:
    rng = random.Random(2)
    words = documents.prose(rng, 150)
    texts = [" ".join(documents.edited(rng, words, rng.choice([0.005, 0.01, 0.02]))) for _ in range(5_000)]
    texts = list(dict.fromkeys(texts))
    sets, memberships = connect(texts)
    assert len(texts) > 4_000
    assert found(sets.labels) == {frozenset(range(len(texts)))}
    assert sets.compared <= 2 * memberships  # all pairs would be some 90 times as many


def test_a_long_header_shared_by_thousands_does_not_make_all_pairs() -> None:
    rng = random.Random(4)
    header = documents.prose(rng, 130)
    bodies = [documents.prose(rng, 50) for _ in range(3_000)]
    bodies += [documents.edited(rng, body, 0.02) for body in bodies[:300]]
    sets, memberships = connect([" ".join(header + body) for body in bodies])
    # Each edited body belongs to its original and nothing to anything else.
    pairs = {frozenset({i, 3_000 + i}) for i in range(300)}
    assert found(sets.labels) == pairs | {frozenset({i}) for i in range(300, 3_000)}
    assert sets.compared <= 5 * memberships
