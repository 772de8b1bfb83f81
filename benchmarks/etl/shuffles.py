"""Bytes that Spark shuffled, from its event log."""

import json
from collections import Counter
from pathlib import Path

CONFIGURATION = """\
spark.eventLog.enabled true
spark.eventLog.dir {folder}
spark.eventLog.compress false
spark.eventLog.rolling.enabled false
spark.local.dir {scratch}
"""


def configure(work: Path) -> Path:
    """Write settings that make Spark log events in `work/events`; return the folder for SPARK_CONF_DIR."""
    for name in ("events", "scratch", "conf"):
        (work / name).mkdir(parents=True, exist_ok=True)
    text = CONFIGURATION.format(folder=(work / "events").as_uri(), scratch=work / "scratch")
    (work / "conf" / "spark-defaults.conf").write_text(text, encoding="utf-8")
    return work / "conf"


def shuffled(work: Path, began: float, ended: float) -> list[int]:
    """Return the shuffle bytes written by each stage, largest first, of tasks launched between two times in seconds."""
    written: Counter[tuple[str, int]] = Counter()
    for file in sorted((work / "events").iterdir()):
        with file.open(encoding="utf-8") as events:
            for line in events:
                if line.startswith('{"Event":"SparkListenerTaskEnd"'):
                    event = json.loads(line)
                    metrics = event.get("Task Metrics") or {}
                    if began <= event["Task Info"]["Launch Time"] / 1000 <= ended:
                        write = metrics.get("Shuffle Write Metrics", {})
                        written[file.name, event["Stage ID"]] += write.get("Shuffle Bytes Written", 0)
    return sorted(filter(None, written.values()), reverse=True)
