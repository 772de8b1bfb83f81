"""forget: erases a person's records from bronze, quarantine and silver, for good, and reports other places of them.

Name records by their ids (--record), or by a pseudonym that stands for the person in the cleaned texts (--pseudonym);
name records in quarantine likewise, where they have either, or by their place (--quarantined). A tombstone remains:
hashes and the date. No later run on the same sources brings the records back, and the next version is published
without them. The versions and the runs that hold them or learned from them are listed; `ringlake-etl vacuum
--forgotten` then deletes those versions.
"""

import sys
from collections.abc import Sequence

from common.command import configuration_parser, run
from common.errors import UsageError
from common.storage import hadoop_options
from schemas.config import load


def main(argv: Sequence[str] | None = None) -> int:
    parser = configuration_parser("python -m etl.forget", __doc__)
    # Each may be given several times: nobody is to be left out without a word.
    parser.add_argument(
        "--record",
        action="extend",
        nargs="+",
        default=[],
        metavar="ID",
        help="ids of records, as bronze/records has them",
    )
    parser.add_argument(
        "--pseudonym",
        action="extend",
        nargs="+",
        default=[],
        metavar="PSEUDONYM",
        help="as it stands in cleaned texts: '<email:…>'",
    )
    parser.add_argument(
        "--quarantined",
        action="extend",
        nargs="+",
        default=[],
        metavar="PATH:POSITION",
        help="as `ringlake-etl quarantine` shows them; of sources that have the same path, in each of them",
    )
    arguments = parser.parse_args(argv)
    config = load(arguments.config, arguments.overrides)

    from etl.erasure.finding import Person
    from etl.erasure.forgetting import forget, report
    from etl.runs.audit import audited
    from etl.runs.environment_errors import environment_errors_explained
    from etl.runs.lock import locked
    from etl.sources.files.pieces import source_bytes
    from etl.spark.session import build_session, check_startable

    person = Person.of(arguments.record, arguments.pseudonym, arguments.quarantined)
    if person == Person():
        raise UsageError(
            "say whom to forget: --record ID…, --pseudonym PSEUDONYM…, or --quarantined PATH:POSITION…"
        )
    check_startable(config.dataset.root)
    with environment_errors_explained(config), locked(config), audited("forget", config) as outcome:
        name, options = f"{config.dataset.name}-forget", hadoop_options(config.storage)
        spark = build_session(name, options, lambda: source_bytes(config))
        try:
            done = forget(spark, config, person)
        finally:
            spark.stop()
        outcome["counts"] = {
            "records": done.records, "quarantined": done.quarantined, "tombstones": done.tombstones
        }  # fmt: skip
        outcome["published_in"] = [trace.as_dict() for trace in done.traces.versions]
    report(config, done)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
