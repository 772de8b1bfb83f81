"""What a run works with: the configuration, the places of the tables, their logs, each read once, and the session."""

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from etl.lake.facts import CommitFacts
from etl.lake.log import Commit, no_such_table
from etl.lake.tables import read_table, restore_to, write_table
from etl.runs.increments import added_rows
from schemas.config import Configuration
from schemas.tables import Layout


class DataSet:
    """The tables of a data set by name (`records`, `fields` …), as their logs tell of them.

    A log is read once, until the table is written through the same object; nothing else may write it meanwhile, which
    the lock of the data set makes sure of (etl/runs/lock.py).
    """

    def __init__(self, config: Configuration) -> None:
        self.config = config
        self.layout = Layout.of(config)
        self._commits: dict[str, Commit | None] = {}

    def uri(self, table: str) -> str:
        """The place of a table of bronze or silver."""
        uri: str = getattr(self.layout, table)
        return uri

    def commit(self, table: str) -> Commit | None:
        """The newest commit of a table, None where there is no such table."""
        if table not in self._commits:
            self._commits[table] = Commit.of(self.uri(table), self.config.storage)
        return self._commits[table]

    def existing(self, table: str) -> Commit:
        """The same; raises UsageError naming the table when it does not exist."""
        found = self.commit(table)
        if found is None:
            raise no_such_table(self.uri(table))
        return found

    def written(self, table: str) -> None:
        """Has the log of a table read again: something wrote to it in another way than by `Run.write`."""
        self._commits.pop(table, None)


class Run(DataSet):
    """A data set with a Spark session, to read and write its tables."""

    def __init__(self, spark: SparkSession, config: Configuration) -> None:
        super().__init__(config)
        self.spark = spark

    def again(self) -> "Run":
        """A run that makes everything anew, and not only what is new."""
        update = {"increments": self.config.increments.again()}
        made = Run(self.spark, self.config.model_copy(update=update))
        made._commits = self._commits  # what the one writes the other has to see
        return made

    def read(self, table: str, version: int | None = None) -> DataFrame:
        """A table at its newest or a given version. Raises UsageError naming it when it does not exist."""
        return read_table(self.spark, self.uri(table), version)

    def added(self, table: str, since: str, until: str) -> DataFrame | None:
        """The rows that a table has had added between two versions, given by identities; see `added_rows`."""
        return added_rows(self.spark, self.uri(table), since, until, self.config.storage)

    def restore(self, table: str, identity: str) -> bool:
        """Makes a version of a table, given by its identity, the newest one; False where it is another table's."""
        self.written(table)
        return restore_to(self.spark, self.uri(table), identity, self.config.storage)

    def write(
        self, frame: DataFrame, table: str, schema: pa.Schema, facts: CommitFacts, append: bool = False
    ) -> Commit:
        """Replaces the content of a table, or adds to it, in one commit."""
        self.written(table)
        write_table(frame, self.uri(table), schema, self.config, facts, append)
        return self.existing(table)
