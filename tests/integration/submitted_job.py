"""A job for test_submit.py: writes and reads a Delta table, and reports the environment of its Python workers.

Arguments: the table to write, the file for the findings.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from etl.spark.session import build_session


def worker_facts(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Replace the rows by one that names the origin of the worker's modules."""
    import etl.spark.session
    import schemas

    for _ in batches:
        pass
    facts = [etl.spark.session.__file__, schemas.__file__, pa.__file__]
    yield pa.RecordBatch.from_pydict({"fact": facts})


def main() -> None:
    """Run the job on the master that it was submitted to."""
    table, findings = sys.argv[1:]
    spark = build_session("submitted-job", {"spark.sql.session.timeZone": "Europe/Paris"})
    spark.range(100).selectExpr("id", "id % 7 AS remainder").write.format("delta").save(table)
    total = spark.read.format("delta").load(table).groupBy().sum("remainder").first()
    facts = spark.range(0, 1, numPartitions=1).mapInArrow(worker_facts, "fact string").collect()
    found = {
        "total": total[0] if total else None,
        "master": spark.sparkContext.master,
        "time_zone": spark.conf.get("spark.sql.session.timeZone"),
        "etl": facts[0].fact,
        "schemas": facts[1].fact,
        "pyarrow": facts[2].fact,
        "driver_etl": sys.modules["etl"].__file__,
    }
    Path(findings).write_text(json.dumps(found), encoding="utf-8")
    spark.stop()


if __name__ == "__main__":
    main()
