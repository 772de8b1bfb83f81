"""clean: applies the active rules to the configured texts, and records the effects of each.

Rules annotate: every record of bronze is in `silver/fields`; a record that meets a filter has the rule's name there,
in `filtered_by`.
"""

import hashlib
import hmac
from collections.abc import Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from common.errors import CheckError
from etl.lake.facts import CommitFacts, Fingerprint
from etl.rules.applying import ADDED, CleanTexts
from etl.rules.personal_data import pseudonym_key
from etl.rules.registry import build_rules
from etl.runs.completion import Stage, by_the_log, fingerprint
from etl.runs.run import Run, Tables
from etl.spark.sampled_words import is_sampled, share_of
from etl.spark.session import spark_progress
from schemas import tables
from schemas.config import Configuration


def clean(run: Run) -> Mapping[str, int]:
    """Write `silver/fields`; return the numbers of records, and of the kept, filtered and edited ones."""
    config = run.config
    key = pseudonym_key(config.clean)
    build_rules(config.clean)  # a rule that cannot be built stops here, before anything runs
    source = run.existing("records")
    now = clean_fingerprint(config, source.identity)
    records = run.read("records", source.version)
    expected = run.row_count("records")
    new = new_records(run, now)
    # The more records there are, the smaller the share: earlier records have more words recorded, which are not read.
    share = share_of_sample(run, expected)
    with spark_progress(run.spark, "cleaning"):
        cleaned_records = with_cleaned_texts(records if new is None else new, config, key, share)
        facts = CommitFacts.by("clean", config, now)
        run.write(cleaned_records, "fields", tables.fields_schema(config), facts, append=new is not None)
        counts = (
            run.read("fields")
            .agg(
                F.count("*").alias("records"),
                F.count_if(F.col("filtered_by").isNull()).alias("kept"),
                F.count_if(F.col("filtered_by").isNotNull()).alias("filtered"),
                F.count_if(F.size("effects") > 0).alias("edited"),
            )
            .first()
        )
    assert counts is not None
    if counts["records"] != expected:
        raise CheckError(
            f"{expected:,} records went into cleaning and {counts['records']:,} came out: please report this defect"
        )
    return counts.asDict()


def new_records(run: Run, now: Fingerprint) -> DataFrame | None:
    """Return the rows of bronze/records missing in silver/fields, where nothing else has changed; None: all."""
    standing = run.commit("fields")
    facts = None if standing is None else standing.facts(CommitFacts)
    if facts is None or not run.config.increments.go_on or facts.fingerprint == now:
        return None
    since, until = facts.fingerprint.inputs.get("records"), now.inputs["records"]
    if since is None or until is None or not now.differs_only_in(facts.fingerprint, "records"):
        return None
    return run.added("records", since, until)


def share_of_sample(run: Run, records: int) -> float:
    """Return the share of the records to record words of, from their number and the bytes of their files."""
    total = run.read("sources").where("status = 'read'").agg(F.sum("bytes")).first()
    assert total is not None
    return share_of(total[0] or 0, records)


def with_cleaned_texts(
    records: DataFrame, config: Configuration, key: bytes | None = None, words_share: float = 1.0
) -> DataFrame:
    """Return the columns of `silver/fields` from those of `bronze/records`; `key` makes pseudonyms, if any.

    `words_share`: share of the records whose words are recorded.
    """
    schema = tables.fields_schema(config)
    columns = [records[field.name] for field in schema if field.name not in ADDED]
    columns += [records["image_effects"]] if config.image_features() else []
    # Under the name of what it decides about, which no column of the user's can have.
    sampled = is_sampled(words_share).alias("sampled_words")
    return records.select(*columns, sampled).mapInArrow(CleanTexts(config, key), tables.spark_schema(schema))


def clean_fingerprint(config: Configuration, records: str) -> Fingerprint:
    """Return the inputs of `clean`, given the identity of bronze/records.

    The key of pseudonyms enters as a keyed hash of a constant, from which it cannot be recovered.
    """
    key = pseudonym_key(config.clean)
    check = None if key is None else hmac.new(key, b"ringlake", hashlib.sha256).hexdigest()[:16]
    return fingerprint("clean", config, records=records, key_check=check)


def cleaned(data: Tables) -> bool:
    """Return True where the stage is complete."""
    records, fields = data.commit("records"), data.commit("fields")
    if records is None or fields is None:
        return False
    return fields.made_by(clean_fingerprint(data.config, records.identity), CommitFacts) is not None


STAGE = Stage("clean", clean, by_the_log(cleaned))
