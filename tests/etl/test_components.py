import random
from itertools import pairwise

import pytest
from pyspark.sql import SparkSession

from etl.duplicates.components import components
from tests.etl import documents


def graph(seed: int) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    nodes = [f"n{i:03d}" for i in range(300)]
    rng.shuffle(nodes)
    path = list(pairwise(nodes[:61]))
    star = [(nodes[70], nodes[i]) for i in range(71, 120)]
    edges = path + star + [(rng.choice(nodes[130:]), rng.choice(nodes[130:])) for _ in range(90)]
    edges += edges[:20] + [(b, a) for a, b in edges[10:40]] + [(nodes[299], nodes[299])]
    rng.shuffle(edges)
    return edges


@pytest.mark.parametrize("edges_on_driver", [10**6, 0])
def test_components_are_named_by_their_smallest_member(spark: SparkSession, edges_on_driver: int) -> None:
    edges = graph(1)
    members = sorted({node for edge in edges for node in edge if edge[0] != edge[1]})
    expected = {
        member: min(group)
        for group in documents.partition(members, [e for e in edges if e[0] != e[1]])
        for member in group
    }
    frame = spark.createDataFrame(edges, "x string, y string")
    found = components(frame, edges_on_driver)
    assert found.columns == ["member", "component"]
    assert sorted(found.collect()) == sorted(expected.items())


@pytest.mark.parametrize("edges_on_driver", [10**6, 0])
def test_no_edges_no_components(spark: SparkSession, edges_on_driver: int) -> None:
    edges = spark.createDataFrame([(b"a", b"a")], "x binary, y binary")
    assert components(edges, edges_on_driver).collect() == []
