"""Context of a run: the configuration, the locations of the tables, their logs, each read once, and the session."""

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from etl.lake.facts import CommitFacts
from etl.lake.log import Commit, no_such_table, row_count
from etl.lake.tables import read_table, restore_to, write_table
from etl.runs.increments import added_rows
from schemas.config import Configuration
from schemas.tables import Layout


class Tables:
    """Tables of a data set by name (`records`, `fields` …), as their logs describe them.

    A log is read once, until the table is written through the same object; the lock of the data set keeps anything
    else from writing it meanwhile (etl/runs/lock.py).
    """

    def __init__(self, config: Configuration) -> None:
        self.config = config
        self.layout = Layout.of(config)
        self._commits: dict[str, Commit | None] = {}

    def uri(self, table: str) -> str:
        """Return the location of a table of bronze or silver."""
        uri: str = getattr(self.layout, table)
        return uri

    def commit(self, table: str) -> Commit | None:
        """Return the newest commit of a table, None where there is no such table."""
        if table not in self._commits:
            self._commits[table] = Commit.of(self.uri(table), self.config.storage)
        return self._commits[table]

    def existing(self, table: str) -> Commit:
        """Return the newest commit of a table; raise UsageError naming the table when it does not exist."""
        found = self.commit(table)
        if found is None:
            raise no_such_table(self.uri(table))
        return found

    def row_count(self, table: str) -> int:
        """Return the number of rows of a table at its newest version."""
        return row_count(self.uri(table), self.config.storage, self.existing(table).version)

    def written(self, table: str) -> None:
        """Forget the log of a table that was written by other means than `Run.write`."""
        self._commits.pop(table, None)


class Run(Tables):
    """Data set with a Spark session, to read and write its tables."""

    def __init__(self, spark: SparkSession, config: Configuration) -> None:
        super().__init__(config)
        self.spark = spark

    def again(self) -> "Run":
        """Return a run that rebuilds everything."""
        update = {"increments": self.config.increments.again()}
        made = Run(self.spark, self.config.model_copy(update=update))
        made._commits = self._commits  # each has to see what the other writes
        return made

    def read(self, table: str, version: int | None = None) -> DataFrame:
        """Return a table at its newest or a given version. Raises UsageError naming it when it does not exist."""
        return read_table(self.spark, self.uri(table), version)

    def added(self, table: str, since: str, until: str) -> DataFrame | None:
        """Return the rows added to a table between two versions, given by identities; see `added_rows`."""
        return added_rows(self.spark, self.uri(table), since, until, self.config.storage)

    def restore(self, table: str, identity: str) -> bool:
        """Make a version of a table, given by its identity, the newest one; return False for another table's."""
        self.written(table)
        return restore_to(self.spark, self.uri(table), identity, self.config.storage)

    def write(
        self, frame: DataFrame, table: str, schema: pa.Schema, facts: CommitFacts, append: bool = False
    ) -> Commit:
        """Replace the content of a table, or add to it, in one commit."""
        self.written(table)
        write_table(frame, self.uri(table), schema, self.config, facts, append)
        return self.existing(table)
