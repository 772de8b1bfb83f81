"""Kernels to compare: the part of the step from texts to MinHash values that each covers, and the differences."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """Line of the table."""

    name: str
    kernel: str
    """Its module in `kernels/`."""
    run: str = "run"
    prepare: str = "prepare"
    peer: str | None = None
    """Environment that it runs in; the product's own where None."""
    whole: bool = True
    """Starts from texts; False: from shingle hashes that were made before the clock started."""
    texts: int | None = None
    """Largest number of texts, because all would take too long."""
    done: str = ""


CASES = (
    Case(
        "ours", "ringlake", done="everything, and exact hashes, shingle sets and the keys of 28 bands besides"
    ),
    Case("ours, values only", "ringlake", "run_values", done="the same without exact hashes and band keys"),
    Case(
        "rensa",
        "rensa",
        peer="rensa",
        done="Python's re and unicodedata make the shingles; rensa hashes them and makes the values",
    ),
    Case(
        "rensa on our shingles",
        "rensa",
        "run_mixed",
        "prepare_mixed",
        peer="rensa",
        done="our tokens and shingle hashes in numpy; rensa makes the values",
    ),
    Case(
        "datasketch",
        "datasketch",
        peer="datasketch",
        texts=4_000,
        done="Python's re and unicodedata make the shingles; datasketch hashes them (SHA-1) and makes the values",
    ),
    Case(
        "datasketch, hash()",
        "datasketch",
        "run_fast",
        peer="datasketch",
        texts=4_000,
        done="the same with Python's own hash instead of SHA-1",
    ),
    Case(
        "daft",
        "daft",
        peer="daft",
        done="all of it, but words are what stands between spaces once ASCII punctuation is gone (NFD, not NFKC)",
    ),
    Case(
        "duckdb",
        "duckdb",
        peer="duckdb",
        texts=4_000,
        done="SQL: regexp_extract_all, lists, hash(shingle hash, seed); NFC and lower case, not NFKC and casefold",
    ),
    Case(
        "spark MinHashLSH",
        "spark",
        texts=2_000,
        done="RegexTokenizer, NGram, HashingTF (2^20), MinHashLSH with 140 tables; lower case, no normalisation",
    ),
    Case(
        "spark functions",
        "spark",
        "run_functions",
        texts=1_000,
        done="regexp_extract_all, transform, xxhash64(shingle hash, seed); lower case, no normalisation",
    ),
    Case(
        "ours, hashes to values",
        "ringlake",
        "run_hashes",
        "prepare_hashes",
        whole=False,
        done="shingle hashes to values",
    ),
    Case(
        "rensa, hashes to values",
        "rensa",
        "run_hashes",
        "prepare_hashes",
        peer="rensa",
        whole=False,
        done="shingle hashes to values",
    ),
)
PACKAGES = {"rensa": "rensa", "datasketch": "datasketch", "daft": "daft", "duckdb": "duckdb"}
"""By peer: the distribution whose version is reported."""
