"""Final outcome of the records: silver/ledger, without the outliers that `encode` leaves out."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.tables import LEFT_OUT


def rows_to_publish(encoded: DataFrame) -> DataFrame:
    """Return the rows of silver/encoded without the outliers that are left out."""
    if LEFT_OUT not in encoded.columns:
        return encoded
    return encoded.where(F.col(LEFT_OUT).isNull()).drop(LEFT_OUT)


def final_ledger(ledger: DataFrame, encoded: DataFrame) -> DataFrame:
    """Return silver/ledger with silver/encoded's left-out outliers as `filtered`, in no cluster and no split."""
    if LEFT_OUT not in encoded.columns:
        return ledger
    outliers = encoded.where(F.col(LEFT_OUT).isNotNull()).select("record_id", LEFT_OUT)
    stays = F.col(LEFT_OUT).isNull()
    return ledger.join(outliers, "record_id", "left").select(
        "record_id",
        "source",
        F.when(stays, F.col("status")).otherwise("filtered").alias("status"),
        F.when(stays, F.col("reason")).otherwise(F.col(LEFT_OUT)).alias("reason"),
        F.when(stays, F.col("cluster_id")).alias("cluster_id"),
        F.when(stays, F.col("split")).alias("split"),
    )
