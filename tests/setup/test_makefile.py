"""What the targets of the Makefile would run, as `make -n` shows it."""

import os
import subprocess

import pytest

from tests.setup.scripts import CHECKOUT


@pytest.mark.parametrize(
    ("given", "flags"),
    [
        ([], ""),
        (["RESUME=auto"], "--resume=auto"),
        (["RESUME=1"], "--resume"),
        (["AGAIN=1"], "--again"),
        # Only what surely asks for it removes a run.
        (["AGAIN=0"], ""),
        (["AGAIN=no"], ""),
    ],
)
def test_training_is_started_as_told(given: list[str], flags: str) -> None:
    command = ["make", "-n", "train", "CONF=conf/x.toml", *given]
    # Without the variables of a make that runs the tests.
    done = subprocess.run(
        command, cwd=CHECKOUT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True
    )
    started = [line.split("--run x", 1)[1] for line in done.stdout.splitlines() if "--run x" in line]
    assert [line.split("--check")[0].strip() for line in started] == [flags, flags]


def test_the_pipeline_gets_the_raw_data_that_its_configuration_reads() -> None:
    command = ["make", "-n", "etl", "CONF=conf/x.toml"]
    done = subprocess.run(
        command, cwd=CHECKOUT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True
    )
    assert [line for line in done.stdout.splitlines() if "data.sh" in line] == ["setup/data.sh 'conf/x.toml'"]
