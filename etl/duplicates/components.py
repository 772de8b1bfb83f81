"""Connected components of a graph whose edges are a DataFrame, named by their smallest member."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from etl.spark.persist import LEVEL, persisted

EDGES_ON_DRIVER = 5_000_000
"""Edges (some 200 MB of ids of 16 bytes) up to which the driver's memory and one core are faster than the cluster."""
MOST_ROUNDS = 100


def components(edges: DataFrame, edges_on_driver: int = EDGES_ON_DRIVER) -> DataFrame:
    """Return columns `member`, `component` (the component's smallest member) for each end of an edge.

    `edges` has two columns of one type (string or binary), in any order and direction, repetitions allowed.
    """
    left, right = edges.columns
    pairs = edges.select(F.col(left).alias("a"), F.col(right).alias("b")).where("a <> b").distinct()
    with persisted(pairs):
        return _on_driver(pairs) if pairs.count() <= edges_on_driver else _on_cluster(pairs)


def _on_driver(pairs: DataFrame) -> DataFrame:
    table = pairs.toArrow()
    found = pa.chunked_array([*table["a"].chunks, *table["b"].chunks], table.schema.field("a").type)
    members = pc.unique(found)
    members = members.take(pc.sort_indices(members))
    count = len(members)
    a, b = (pc.index_in(table[name], members).to_numpy() for name in ("a", "b"))
    graph = coo_array((np.ones(len(a), dtype=np.int8), (a, b)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    _, smallest = np.unique(labels, return_index=True)
    result = pa.table({"member": members, "component": members.take(pa.array(smallest[labels]))})
    return pairs.sparkSession.createDataFrame(result)


def _on_cluster(pairs: DataFrame) -> DataFrame:
    """Alternate large-star and small-star until nothing changes.

    Kiveris et al. 2014, "Connected components in MapReduce and beyond". Every round is checkpointed, so that no round
    computes an earlier one again.
    """
    edges, before = pairs.localCheckpoint(storageLevel=LEVEL), None
    for _ in range(MOST_ROUNDS):
        edges = edges.transform(_large_star).transform(_small_star).localCheckpoint(storageLevel=LEVEL)
        after = edges.agg(F.count("*"), F.bit_xor(F.xxhash64("a", "b"))).first()
        if after == before:
            break
        before = after
    else:
        raise RuntimeError(f"the components did not converge in {MOST_ROUNDS} rounds")
    stars = edges.select(F.col("a").alias("member"), F.col("b").alias("component"))
    centres = stars.select(F.col("component").alias("member"), "component").distinct()
    return stars.unionByName(centres).localCheckpoint(storageLevel=LEVEL)


def _large_star(edges: DataFrame) -> DataFrame:
    """Connect every node's larger neighbours with the smallest of the node and its neighbours."""
    both = edges.unionByName(edges.select(F.col("b").alias("a"), F.col("a").alias("b")))
    smallest = both.groupBy("a").agg(F.least("a", F.min("b")).alias("smallest"))
    return (
        both.join(smallest, "a", how="inner")
        .where("b > a")
        .select(F.col("b").alias("a"), F.col("smallest").alias("b"))
        .distinct()
    )


def _small_star(edges: DataFrame) -> DataFrame:
    """Connect every node and its smaller neighbours with the smallest of them."""
    downward = edges.select(F.greatest("a", "b").alias("a"), F.least("a", "b").alias("b"))
    smallest = downward.groupBy("a").agg(F.min("b").alias("smallest"))
    neighbours = downward.join(smallest, "a", how="inner").select(F.col("b").alias("a"), "smallest")
    return (
        neighbours.unionByName(smallest)
        .where("a <> smallest")
        .select("a", F.col("smallest").alias("b"))
        .distinct()
    )
