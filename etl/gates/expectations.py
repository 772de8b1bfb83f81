"""User-defined expectations on the published records: Great Expectations' classes, from the TOML or a Python file.

They are judged with the gates, before anything is published. No text of a record enters a result, page or message.
"""

import hashlib
import re
import runpy
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from common.errors import ConfigurationError
from etl.gates.gx_context import library
from etl.gates.results import GateResult
from etl.lake.outcomes import rows_to_publish
from etl.lake.tables import read_table
from schemas.config import Configuration
from schemas.tables import Layout

FUNCTION = "expectations"
TABLE = "published"


def declared(config: Configuration) -> list[Any]:
    """Return the expectations of a configuration and its file, as objects of the library; empty where there are none.

    Raises ConfigurationError naming the faulty entry or file.
    """
    found = []
    for place, entry in enumerate(config.quality.expectation):
        where = f"quality.expectation.{place} ({entry.type})"
        library()
        from great_expectations.compatibility.pydantic import ValidationError
        from great_expectations.exceptions.exceptions import ExpectationNotFoundError
        from great_expectations.expectations.registry import get_expectation_impl

        try:
            found.append(get_expectation_impl(entry.type)(**entry.kwargs))
        except ExpectationNotFoundError as error:
            raise ConfigurationError(
                f"{where}: Great Expectations knows no such expectation; their names are like "
                "expect_column_values_to_be_in_set"
            ) from error
        except (ValidationError, TypeError) as error:
            raise ConfigurationError(f"{where}: its kwargs do not fit: {_first_line(error)}") from error
    file = config.quality.expectations_file
    if file is not None:
        found += _from_file(Path(file))
    return found


def _first_line(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:3])


def _from_file(file: Path) -> list[Any]:
    gx = library()
    try:
        function = runpy.run_path(str(file)).get(FUNCTION)
        made = function() if callable(function) else None
    except (OSError, SyntaxError, ImportError) as error:
        raise ConfigurationError(f"quality.expectations_file: {file} cannot be run: {error}") from error
    # It is the user's code, which may raise anything; its message may quote a record.
    except (Exception, SystemExit) as error:
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)
        ]
        raise ConfigurationError(
            f"quality.expectations_file: {file} cannot be run: {type(error).__name__}"
            f"{f' in line {lines[-1]}' if lines else ''}"
        ) from error
    if not isinstance(made, list) or not all(isinstance(one, gx.expectations.Expectation) for one in made):
        raise ConfigurationError(
            f"quality.expectations_file: {file} has no function {FUNCTION}() that returns a list of Great "
            "Expectations' expectations"
        )
    return made


def file_sha256(config: Configuration) -> str | None:
    """Return the SHA-256 of the file with expectations, None without one: a changed file asks for a new judgement."""
    file = config.quality.expectations_file
    if file is None:
        return None
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigurationError(
            f"quality.expectations_file: {file} cannot be read: {error.strerror}"
        ) from error


def published_records(
    spark: SparkSession, config: Configuration, versions: Mapping[str, int] = MappingProxyType({})
) -> DataFrame:
    """Return the records to judge: the columns of silver/fields of the published records, and `split`."""
    layout = Layout.of(config)
    fields = read_table(spark, layout.fields, versions.get("fields"))
    encoded = rows_to_publish(read_table(spark, layout.encoded, versions.get("encoded")))
    return fields.join(encoded.select("record_id", "split"), "record_id", "inner")


def judged(context: Any, records: DataFrame, wanted: Sequence[Any]) -> list[GateResult]:
    """Return a gate for each expectation, in order. Raises ConfigurationError for one that cannot be checked."""
    gx = library()
    for place, expectation in enumerate(wanted):
        expectation.meta = {**(expectation.meta or {}), "place": place}
    suite = gx.ExpectationSuite(name=TABLE, expectations=list(wanted))
    # Not persisted in Spark's memory: the records may be many times as large.
    source = context.data_sources.add_or_update_spark(TABLE, persist=False)
    definition = source.add_dataframe_asset(TABLE).add_batch_definition_whole_dataframe(TABLE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Not as a validation that the context keeps: observed values would appear in the Data Docs, unmasked.
        validation = definition.get_batch(batch_parameters={"dataframe": records}).validate(
            suite, result_format={"result_format": "BASIC", "partial_unexpected_count": 0}
        )
    return [_gate(result) for result in sorted(validation.results, key=_place)]


def _place(result: Any) -> int:
    return int(result.expectation_config.meta["place"])


def _gate(result: Any) -> GateResult:
    settings = result.expectation_config
    arguments = {
        k: v for k, v in settings.kwargs.items() if k not in ("batch_id", "column") and v is not None
    }
    column = settings.kwargs.get("column")
    name = f"{settings.type} ({column})" if column else settings.type
    raised = message_of(result.exception_info or {}, column)
    if raised:
        raise ConfigurationError(
            f"the expectation {name} cannot be checked, so nothing was published: {raised}"
        )
    found = result.result or {}
    if found.get("unexpected_count") is not None:
        observed = f"{found['unexpected_count']:,} of {found.get('element_count', 0):,} unexpected"
    else:
        value = found.get("observed_value")
        observed = f"{value:,}" if isinstance(value, int | float) else "not as expected"
        observed = "as expected" if result.success and not isinstance(value, int | float) else observed
    allowed = ", ".join(f"{key} {value}" for key, value in sorted(arguments.items()))
    return GateResult(
        name=name,
        observed=observed,
        allowed=allowed or "as it says",
        passed=bool(result.success),
        failures=[] if result.success else [f"{name}: {observed}"],
        remedy="look at the published records, or change the expectation",
    )


def message_of(info: dict[str, Any], column: str | None) -> str:
    """Return the message of an expectation's error, wherever the library put it; empty where it raised none.

    Quoted text may be a value of a record, unless it is the name of the judged column. Nobody can tell where a value
    ends, since it may contain quotation marks itself: everything from the first to the end is left out.
    """
    if "raised_exception" in info:
        messages = [info.get("exception_message")] if info["raised_exception"] else []
    else:
        messages = [inner.get("exception_message") for inner in info.values() if isinstance(inner, dict)]
    message = str(messages[0]) if messages else ""
    for mark in ("'", '"') if column else ():
        message = message.replace(f"{mark}{column}{mark}", str(column))
    return re.sub(r"['\"].*", "…", message, flags=re.DOTALL)
