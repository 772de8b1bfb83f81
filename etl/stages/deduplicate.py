"""deduplicate: finds exact and near-duplicates among the cleaned texts, and the survivor of each cluster.

Reads silver/fields. Writes silver/signatures (a row for each distinct text) and silver/clusters (a row for each
record of bronze). Filtered records take no part. With new records it goes on from what the last run found out.

- Records with texts that are equal once case, NFKC and white space are folded are copies of one text; signs count
  (etl/duplicates/equality.py). Each text has a representative: the record that comes
  first by `survivor` (longest: most characters of cleaned text; first: by place in the sources; newest: largest
  time; ties by record_id).
- Texts whose shingle sets have a Jaccard similarity of at least `similarity` are near-duplicates, two short ones only
  where their signs are equal too. Clusters are the
  connected components; a cluster's survivor is the first of its representatives by the same policy.
- `cluster_id` is the survivor's record_id; so a record without any duplicate is its own cluster.
- With `duplicates = "drop"` the survivor is `kept`, other representatives are `near_duplicate`, and all other
  records `exact_duplicate` (of a representative in the same cluster); `reason` is the survivor's record_id. With
  "keep" all are `kept`. Clusters with several labels may be treated otherwise (etl/duplicates/label_conflicts.py).

Texts go through one narrow pass from silver/fields into hashes and never cross a shuffle.
"""

from collections.abc import Mapping
from contextlib import ExitStack

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from etl.duplicates.contents import content_of
from etl.duplicates.label_conflicts import contested, settles, with_majority
from etl.duplicates.later_records import (
    Earlier,
    clusters_of_texts,
    count_conflicts,
    earlier_clusters,
    to_compare,
)
from etl.duplicates.near_duplicates import near_duplicate_clusters
from etl.duplicates.sketching import (
    _SKETCHED_RECORDS,
    group_by_text,
    select_signatures,
    survivor_rank,
    with_sketches,
)
from etl.duplicates.survivors import build_clusters, clusters_of_joined, hot_texts_and_clusters, with_survivor
from etl.lake.facts import ClustersFacts, CommitFacts, Fingerprint, LedgerFacts
from etl.runs.completion import Stage, by_the_log, fingerprint
from etl.runs.finished import is_as_today, run_to_go_on_from
from etl.runs.run import Run, Tables
from etl.spark.persist import persisted
from etl.spark.session import spark_progress
from schemas.tables import STATUSES, clusters_schema, signatures_schema


def deduplicate(run: Run) -> Mapping[str, int]:
    """Write silver/signatures and silver/clusters; return the records by status, and `salted_keys` if any."""
    with spark_progress(run.spark, "deduplicate"):
        source = run.existing("fields")
        earlier, fields = (None, None) if settles(run.config) else earlier_texts(run, source.identity)
        if fields is None:
            fields = run.read("fields", source.version)
        now = fingerprint("deduplicate", run.config, fields=source.identity)
        salted = deduplicate_fields(run, fields, now, earlier)
        return count_statuses(run.read("clusters")) | ({"salted_keys": salted} if salted else {})


def earlier_texts(run: Run, fields: str) -> tuple[Earlier, DataFrame] | tuple[None, None]:
    """Return the last run's texts, and the rows added to silver/fields since; None where everything is rebuilt.

    Removes what an interrupted increment has added since. `fields`: the identity of silver/fields.
    """
    last = run_to_go_on_from(run)
    new = None if last is None else run.added("fields", last.tables["fields"], fields)
    if last is None or new is None:
        return None, None
    if not all(run.restore(name, last.tables[name]) for name in ("signatures", "clusters")):
        return None, None
    # Of just these versions, since one of the tables is added to before the other is computed.
    signatures = run.read("signatures", run.existing("signatures").version)
    return Earlier(signatures, run.read("ledger", last.version), last.clusters.conflicts), new


def deduplicate_fields(run: Run, fields: DataFrame, now: Fingerprint, earlier: Earlier | None = None) -> int:
    """Write the two tables for any frame with the needed columns of silver/fields; return the number of salted keys.

    The frame's rows have to come in the same order whenever they are computed: it decides which of equal texts owns
    the sketch. Beside `earlier` texts the rows are added to both tables, whose own stay as they are: a record whose
    text is an earlier one, or whose cluster has one in it, belongs to the cluster of that.
    """
    config, append = run.config, earlier is not None
    facts = CommitFacts.by("deduplicate", config, now)
    with ExitStack() as stack:

        def keep(frame: DataFrame) -> DataFrame:
            return stack.enter_context(persisted(frame))

        sketches = keep(with_sketches(fields, config))
        records = keep(sketches.select(_SKETCHED_RECORDS.names))
        texts = keep(group_by_text(records, config))
        signatures = select_signatures(sketches, texts)
        if earlier is not None:
            signatures = keep(signatures)
            of_texts = keep(clusters_of_texts(earlier))
            compared = keep(to_compare(signatures, earlier, of_texts))
            signatures = signatures.join(
                earlier.signatures.select("content_hash"), "content_hash", "left_anti"
            )
        written = run.write(signatures, "signatures", signatures_schema(), facts, append)
        if earlier is None:
            sketches.unpersist()  # it is as large as the texts
            compared = run.read("signatures", written.version)
        clusters = keep(near_duplicate_clusters(compared, content_of(config).connect))
        own_texts, own_clusters, conflicts = texts, clusters, 0
        if earlier is not None:
            joined = keep(earlier_clusters(clusters, texts, of_texts))
            # Clusters of new texts alone are computed as in a first run.
            own_texts = texts.join(joined.select("content_hash"), "content_hash", "left_anti")
            members = own_texts.select(F.col("content_hash").alias("member"))
            own_clusters = clusters.join(members, "member", "left_semi")
            conflicts = earlier.conflicts + count_conflicts(records, joined, config)
        hot_texts, hot_clusters = hot_texts_and_clusters(own_texts, own_clusters)
        survivors, disputed = with_survivor(own_texts, own_clusters, hot_clusters), None
        if settles(config):
            disputed = keep(contested(records, clusters, survivor_rank(config)))
            if config.deduplicate.label_conflicts == "majority":
                survivors = with_majority(survivors, records, disputed, survivor_rank(config))
        rows = build_clusters(fields, records, survivors, config, hot_texts, disputed)
        if earlier is not None:
            rows = rows.unionByName(clusters_of_joined(records, texts, joined, config))
        noted = {"signatures": written.identity, "conflicts": conflicts}
        run.write(
            rows, "clusters", clusters_schema(), ClustersFacts.by("deduplicate", config, now, **noted), append
        )
        return len(hot_texts) + len(hot_clusters)


def count_statuses(clusters: DataFrame) -> dict[str, int]:
    """Return the number of records by status, every status included."""
    found = {row["status"]: int(row["count"]) for row in clusters.groupBy("status").count().collect()}
    return {status: found.get(status, 0) for status in STATUSES}


def deduplicated(data: Tables) -> bool:
    """Return True where the stage is complete."""
    fields, signatures, clusters = (data.commit(name) for name in ("fields", "signatures", "clusters"))
    if fields is None or signatures is None or clusters is None:
        return False
    now = fingerprint("deduplicate", data.config, fields=fields.identity)
    facts, ledger = clusters.made_by(now, ClustersFacts), data.commit("ledger")
    if facts is None or signatures.made_by(now, CommitFacts) is None:
        return False
    # Records that were left out because of existing splits have no cluster: other splits begin before that.
    of_ledger = None if ledger is None else ledger.facts(LedgerFacts)
    return not facts.conflicts or (of_ledger is not None and is_as_today("split", data.config, of_ledger))


STAGE = Stage("deduplicate", deduplicate, by_the_log(deduplicated))
