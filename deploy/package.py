"""Build the files that `spark-submit` needs on any cluster, in dist/ or the folder given as the only argument:

ringlake.zip        the packages common, provenance, schemas and etl, for --py-files
environment.tar.gz  the Python packages that the stages import; Spark unpacks it for executors as ./environment
environment.txt     their names and versions, and that of Python
spark.properties    the Delta jars, the archive, and the settings that every master needs, for --properties-file
log4j2.properties   the logging of the driver, which spark.properties names: to logs/, not to the screen

Workers need on their PATH the version of Python that this is run with (3.13, say), and a Spark of this version, which
brings pyspark itself.
"""

import argparse
import gzip
import importlib.metadata
import io
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from common import command, files
from common.progress import Progress, log
from etl.spark.environment import default_driver_memory
from etl.spark.session import COMMON, EXECUTOR_PYTHON, delta_jars

CHECKOUT = Path(__file__).resolve().parent.parent
LOGGING = "log4j2.properties"
PACKAGES = ("common", "provenance", "schemas", "etl")

# Direct dependencies that no stage imports; pyspark comes from the Spark that every worker has.
NOT_SHIPPED = {"torch", "petastorm", "tensorboard", "scikit-learn", "matplotlib", "pyspark"}

# Files that no program reads: the packages' own tests, and files to compile against.
UNREAD_FOLDERS = {"tests", "include", "__pycache__"}
UNREAD_SUFFIXES = {".a", ".h", ".hpp", ".pxd", ".pyx"}

# An archive cannot hold a virtual environment, which names the interpreter's folder on the machine it was made on.
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
LAUNCHER = f"""#!/bin/sh
# Python {VERSION} of this machine with the packages of this archive.
python="${{RINGLAKE_PYTHON:-python{VERSION}}}"
if ! "$python" -c pass 2> /dev/null; then
    echo "no $python on this machine: install Python {VERSION} or set spark.executorEnv.RINGLAKE_PYTHON" >&2
    exit 127
fi
packages="$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)/site-packages"
PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}$packages" exec "$python" "$@"
"""


def shipped_distributions(root: str = "ringlake") -> list[importlib.metadata.Distribution]:
    """Return the installed distributions that `root` requires, directly or not, except those in `NOT_SHIPPED`."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [root]
    while waiting:
        distribution = importlib.metadata.distribution(waiting.pop())
        for text in distribution.requires or []:
            requirement = Requirement(text)
            name = canonicalize_name(requirement.name)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and name not in found and name not in NOT_SHIPPED:
                found[name] = importlib.metadata.distribution(name)
                waiting.append(name)
    return [found[name] for name in sorted(found)]


def shipped_files(distribution: importlib.metadata.Distribution) -> Iterator[tuple[Path, str]]:
    """Yield (file on disk, path below site-packages) for the files of a distribution that a program reads."""
    for file in distribution.files or []:
        path = Path(str(distribution.locate_file(file)))
        outside = file.is_absolute() or ".." in file.parts  # console scripts
        unread = UNREAD_FOLDERS.intersection(file.parts) or file.suffix in UNREAD_SUFFIXES
        if not outside and not unread and path.is_file():
            yield path, file.as_posix()


def write_code(target: Path) -> None:
    """Write the packages etl and schemas as a zip, with the data files beside their modules."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in PACKAGES:
            for path in sorted((CHECKOUT / package).rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    entry = zipfile.ZipInfo(path.relative_to(CHECKOUT).as_posix(), (1980, 1, 1, 0, 0, 0))
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(entry, path.read_bytes())


def write_environment(target: Path) -> None:
    """Write the packages as a gzipped tar with `bin/python`, and a list of them beside it.

    Equal packages give equal bytes, so an archive whose list is still right is left as it is.
    """
    distributions = shipped_distributions()
    packages = [f"{distribution.name}=={distribution.version}" for distribution in distributions]
    contents = "\n".join([f"python=={VERSION}", *packages, ""])
    listing = target.with_name("environment.txt")
    if target.exists() and listing.exists() and listing.read_text(encoding="utf-8") == contents:
        log(f"{target.name} is up to date")
        return
    shipped = [pair for distribution in distributions for pair in shipped_files(distribution)]
    with (
        Progress(
            f"packing {target.name}", sum(path.stat().st_size for path, _ in shipped) >> 20, "MB"
        ) as progress,
        files.replacing(target) as raw,
        gzip.GzipFile("", "wb", compresslevel=3, fileobj=raw, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as archive,
    ):
        _add(archive, "bin/python", LAUNCHER.encode(), 0o755)
        done = 0
        for path, name in shipped:
            content = path.read_bytes()
            _add(archive, f"site-packages/{name}", content, 0o644)
            done += len(content)
            progress.update((done >> 20) - progress.done)
    listing.write_text(contents, encoding="utf-8")


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def properties(archive: Path) -> Mapping[str, str]:
    """Return the settings of a submission that hold for every master; what they name lies beside the archive."""
    return {
        "spark.jars": ",".join(jar.as_uri() for jar in delta_jars()),
        "spark.archives": f"{archive.as_uri()}#environment",
        EXECUTOR_PYTHON: "./environment/bin/python",
        # The running Python has all packages of the driver (the driver runs where spark-submit does).
        "spark.pyspark.driver.python": sys.executable,
        "spark.driver.memory": default_driver_memory(),
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={(archive.parent / LOGGING).as_uri()}",
        **COMMON,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Build the files and say how to use them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("dist"), help="where to write (default dist)"
    )
    folder: Path = parser.parse_args(argv).folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    write_code(folder / "ringlake.zip")
    write_environment(folder / "environment.tar.gz")
    files.write(folder / LOGGING, (CHECKOUT / "deploy" / LOGGING).read_bytes())
    lines = [f"{key} {value}" for key, value in properties(folder / "environment.tar.gz").items()]
    (folder / "spark.properties").write_text("\n".join(lines) + "\n", encoding="utf-8")
    log(
        f"built {folder}; from any folder, with SPARK_HOME a Spark of this version (such as that in .venv):\n"
        f"  spark-submit --properties-file {folder}/spark.properties --py-files {folder}/ringlake.zip \\\n"
        f"      [--master spark://HOST:7077] {CHECKOUT}/etl/ingest.py --config conf/x.toml"
    )
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
