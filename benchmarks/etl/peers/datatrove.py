"""datatrove's MinHash pipeline: signatures, buckets, clusters, with its default bands (14 of 8 hashes).

Its own tokeniser for English is spaCy's; here it gets one that finds the tokens of this comparison's definition, and
its normalisation is off, so that all systems compare the same shingles. That is several times as fast as its default,
which `--as-it-comes` keeps. The last step, which rewrites the files without the duplicates, is left out: only
clusters are compared.
"""

import json
import re
import shutil
import struct
import unicodedata
from pathlib import Path

from datatrove.executor.local import LocalPipelineExecutor  # type: ignore[import-not-found]
from datatrove.pipeline.dedup import minhash  # type: ignore[import-not-found]
from datatrove.pipeline.readers import JsonlReader  # type: ignore[import-not-found]
from datatrove.utils.text import TextNormConfig  # type: ignore[import-not-found]

from benchmarks.etl.peers import arguments, report, write


class Tokens:
    """Tokeniser for maximal runs of `\\w` in the NFKC-normalised, case-folded text."""

    def word_tokenize(self, text: str) -> list[str]:
        return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())


def settings() -> minhash.MinhashConfig:
    """Return the settings: 5 tokens a shingle and no normalisation, which the tokeniser does; defaults otherwise."""
    untouched = TextNormConfig(
        lowercase=False,
        norm_whitespace=False,
        remove_punctuation=False,
        norm_unicode_diacritics=False,
        norm_numbers=False,
        norm_weekdays=False,
        norm_monthnames=False,
    )
    return minhash.MinhashConfig(n_grams=5, norm_config=untouched)


def find(files: Path, work: Path, workers: int, as_it_comes: bool) -> None:
    """Write the clusters into `work/clusters`, a file for each source file."""
    config = minhash.MinhashConfig()
    if not as_it_comes:
        config = settings()
        minhash.load_word_tokenizer = lambda language: Tokens()
    signatures, buckets, clusters = (str(work / name) for name in ("signatures", "buckets", "clusters"))
    count = len(list(files.glob("part-*.jsonl")))
    reader = JsonlReader(str(files), glob_pattern="part-*.jsonl")
    steps = (
        ([reader, minhash.MinhashDedupSignature(signatures, config)], count),
        ([minhash.MinhashDedupBuckets(signatures, buckets, config=config)], config.num_buckets),
        ([minhash.MinhashDedupCluster(buckets, clusters, config=config, save_cluster_id=True)], 1),
    )
    for number, (pipeline, tasks) in enumerate(steps):
        LocalPipelineExecutor(
            pipeline, tasks=tasks, workers=min(workers, tasks), logging_dir=str(work / f"logs-{number}")
        ).run()


def clusters_of(files: Path, work: Path) -> dict[int, int]:
    """Return the cluster of each record in one; datatrove names documents by file and place in it."""
    found = {}
    for number, file in enumerate(sorted(files.glob("part-*.jsonl"))):
        members = work / "clusters" / f"{number:06d}.clusters"
        if members.exists():
            with file.open("rb") as lines:
                records = [int(json.loads(line)["id"]) for line in lines]
            for place, cluster in struct.iter_unpack("<2I", members.read_bytes()):
                found[records[place]] = cluster
    return found


def main() -> None:
    given = arguments()
    work = given.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    report("begin")
    find(given.files.resolve(), work, given.workers, given.as_it_comes)
    report("end")
    write(work, clusters_of(given.files, work))


if __name__ == "__main__":
    main()
