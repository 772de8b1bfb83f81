"""DuckDB, which has no MinHash: its functions for texts, lists and hashes combined in SQL, in one thread."""

from collections.abc import Sequence
from typing import Any

import duckdb  # type: ignore[import-not-found]
import pyarrow as pa

from benchmarks.minhash.kernels import HASHES, SHINGLE

QUERY = f"""
with tokens as (
    select regexp_extract_all(lower(nfc_normalize(text)), '[\\p{{L}}\\p{{N}}_]+') as words from texts
), hashed as (
    select list_transform(range(1, greatest(len(words) - {SHINGLE - 2}, 2)),
        lambda i: hash(array_to_string(words[i:i + {SHINGLE - 1}], ' '))) as shingles from tokens
)
select list_transform(range({HASHES}),
    lambda seed: list_min(list_transform(shingles, lambda one: hash(one, seed)))) as hashes
from hashed
"""


def prepare(texts: Sequence[str]) -> Any:
    connection = duckdb.connect()
    connection.execute("set threads = 1")
    connection.register("given", pa.table({"text": list(texts)}))
    connection.execute("create table texts as select * from given")
    return connection


def run(prepared: Any) -> int:
    counted = prepared.execute(f"select count(*) from ({QUERY}) where len(hashes) = {HASHES}").fetchone()
    return int(counted[0])
