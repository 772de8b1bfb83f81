"""The console scripts: thin names for the modules that `python -m` starts."""

import importlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from common.subcommands import Commands, dispatch, usage
from etl import cli as etl_cli
from training import cli as train_cli

ALL = [*etl_cli.COMMANDS.values(), *train_cli.COMMANDS.values()]


@pytest.mark.parametrize("module", [module for module, _ in ALL])
def test_every_subcommand_is_a_module_with_a_main_that_explains_itself(
    module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main(["--help"])
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_a_subcommand_ends_with_the_status_of_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[Sequence[str]] = []

    def main(argv: Sequence[str]) -> int:
        received.append(argv)
        return 3

    module = ModuleType("a_stage")
    module.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_stage", module)
    commands: Commands = {"stage": ("a_stage", "does something")}
    assert dispatch("program", commands, ["stage", "--config", "x.toml"]) == 3
    assert received == [["--config", "x.toml"]]


@pytest.mark.parametrize("arguments", [[], ["publsh"]])
def test_an_unknown_subcommand_ends_with_2_and_names_the_known_ones(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert etl_cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert [name for name in etl_cli.COMMANDS if name not in said] == []


def test_help_names_each_subcommand_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert train_cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == list(train_cli.COMMANDS)
    assert usage("p", {"a": ("m", "what")}).endswith("  a  what")


JUDGED_EARLY = """
import importlib, sys
from common import command
for name, flags in {commands}:
    status = command.run(importlib.import_module(name).main, ["--config", "conf.toml", *flags])
    print(status, name, file=sys.stderr)
print(*sorted({heavy} & set(sys.modules)))
"""
FLAGS = {
    "etl.rollback": ["--to", "0"],
    "etl.forget": ["--record", "a"],
    "training.train": ["--run", "a"],
    "training.evaluate": ["--run", "a"],
    "training.report": ["--run", "a"],
    "training.batches": ["--epoch", "0"],
    "training.tune": ["--study", "a"],
}
HEAVY = {"deltalake", "great_expectations", "pandas", "petastorm", "pyspark", "torch"}


def test_a_configuration_is_judged_before_anything_takes_seconds_to_import(tmp_path: Path) -> None:
    (tmp_path / "conf.toml").write_text("[dataste]\n")
    # They take a run's folder, and a configuration for its credentials alone.
    of_runs = {"training.verify", "training.generate"}
    commands = [(module, FLAGS.get(module, [])) for module, _ in ALL if module not in of_runs]
    code = JUDGED_EARLY.format(commands=commands, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert done.stdout == "\n"
    lines = done.stderr.splitlines()
    assert lines[1::2] == [f"2 {module}" for module, _ in commands]
    assert all("unknown key 'dataste' in conf.toml (did you mean 'dataset'?)" in line for line in lines[::2])
