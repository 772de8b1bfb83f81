"""`training.verify`: the whole chain of a run's checkpoints, and the manifest behind it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import DataError, UsageError
from common.lock import held
from provenance.checksums import sha256_of
from schemas.config import load
from tests.training.published import Published, publish
from tests.training.test_checkpoint import save
from training import verify as command
from training.checkpoints import store
from training.checkpoints.record import Record
from training.train import main

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def trained(published: Published) -> Path:
    assert main(["--config", str(published.config), "--run", "trained"]) == 0
    return published.root / "runs" / "trained"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """Make a copy that may be damaged."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_a_whole_run_is_in_order(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(trained)]) == 0
    records = store.read_chain(trained)
    # Every five steps, and after the validation at the end of both epochs of eleven steps.
    assert [record.step for record in records] == [5, 10, 11, 15, 20, 22]
    shown = capsys.readouterr()
    assert f"6 checkpoints chained up to step 22 (chain {records[-1].chain})" in shown.out + shown.err


def test_a_chain_of_earlier_versions_verifies_and_goes_on(tmp_path: Path) -> None:
    store.folder_of(tmp_path).mkdir()
    old = (Path(__file__).parent / "checkpoint_chain.jsonl").read_bytes()
    (store.folder_of(tmp_path) / "chain.jsonl").write_bytes(old)
    assert [record.step for record in command.check_chain(tmp_path)] == [5, 10, 11]
    (store.folder_of(tmp_path) / "chain.jsonl").write_bytes(old.replace(b'"position":160', b'"position":161'))
    with pytest.raises(DataError, match=r"line 2 of .*chain\.jsonl was altered"):
        command.check_chain(tmp_path)


WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(["horovod", "petastorm", "torch"]))  # importing them fails
from common import command
from training import verify
sys.exit(command.run(verify.main, sys.argv[1:]))
"""


def test_verifying_needs_neither_horovod_nor_torch(run: Path) -> None:
    def verified() -> subprocess.CompletedProcess[str]:
        command_line = [sys.executable, "-c", WITHOUT, str(run)]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        return subprocess.run(command_line, env=environment, capture_output=True, text=True, check=False)

    done = verified()
    assert done.returncode == 0, done.stderr
    assert "6 checkpoints chained up to step 22" in done.stdout + done.stderr
    forge(store.folder_of(run))
    done = verified()
    assert done.returncode == 1
    assert "step-00000022.pt does not belong to" in done.stderr


def edit_line(number: int, key: str, value: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        lines = (folder / "chain.jsonl").read_text().splitlines()
        lines[number] = json.dumps({**json.loads(lines[number]), key: value})
        (folder / "chain.jsonl").write_text("".join(f"{line}\n" for line in lines))

    return edit


def drop_line(folder: Path) -> None:
    lines = (folder / "chain.jsonl").read_text().splitlines()
    (folder / "chain.jsonl").write_text("".join(f"{line}\n" for line in [*lines[:1], *lines[2:]]))


def cut_end(folder: Path) -> None:
    lines = (folder / "chain.jsonl").read_text().splitlines()
    (folder / "chain.jsonl").write_text("".join(f"{line}\n" for line in lines[:-2]))


def flip(folder: Path) -> None:
    file = folder / "step-00000020.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def forge(folder: Path) -> None:
    """Replace a checkpoint's contents, with a record that fits them."""
    shutil.copy(folder / "step-00000020.pt", folder / "step-00000022.pt")
    record = json.loads((folder / "step-00000022.json").read_text())
    record["sha256"] = sha256_of(str(folder / "step-00000022.pt"))[0]
    forged = Record.model_validate(record)
    forged = forged.model_copy(update={"chain": forged.link()})
    (folder / "step-00000022.json").write_text(forged.model_dump_json())


def stray(folder: Path) -> None:
    shutil.copy(folder / "step-00000020.json", folder / "step-00000021.json")


def unfinished(folder: Path) -> None:
    shutil.copy(folder / "step-00000022.pt", folder / "step-00000025.pt")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edit_line(0, "sha256", "0" * 64), r"line 1 of .*chain\.jsonl was altered"),
        (edit_line(2, "manifest_root", "0" * 64), r"line 3 of .*chain\.jsonl was altered"),
        (edit_line(1, "position", 7), r"line 2 of .*chain\.jsonl was altered"),
        (edit_line(2, "validation_loss", 0.1), r"line 3 of .*chain\.jsonl was altered"),
        (edit_line(1, "seconds", 7.0), None),
        (edit_line(5, "seconds", 7.0), r"step-00000022\.json was altered: it is not what chain\.jsonl says"),
        (drop_line, r"line 2 of .*chain\.jsonl does not follow"),
        (
            lambda folder: (folder / "chain.jsonl").unlink(),
            r"chain\.jsonl is missing or empty: .* put it back",
        ),
        (lambda folder: (folder / "chain.jsonl").write_bytes(b""), r"chain\.jsonl is missing or empty"),
        (cut_end, r"chain\.jsonl lacks lines at its end: step-00000022\.json is not in it"),
        (flip, r"step-00000020\.pt is damaged"),
        (forge, r"step-00000022\.pt does not belong to"),
        (stray, r"step-00000021\.json is not in the chain"),
        (lambda folder: (folder / "step-00000022.pt").unlink(), r"step-00000022\.pt is missing; put it back"),
        (lambda folder: (folder / "step-00000022.json").unlink(), r"step-00000022\.json is missing"),
        # As a kill leaves it: in the middle of a deletion, or before a checkpoint was finished.
        (lambda folder: (folder / "step-00000020.json").unlink(), None),
        (unfinished, None),
    ],
)
def test_damage_is_named(run: Path, damage: Callable[[Path], None], message: str | None) -> None:
    damage(store.folder_of(run))
    if message is None:  # (times are not part of the chain's hash)
        assert command.main([str(run)]) == 0
        return
    with pytest.raises(DataError, match=message):
        command.main([str(run)])


def test_a_training_that_goes_on_meanwhile_raises_no_alarm(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between two looks of the command checkpoints are written, deleted, and being written."""
    config = load(published.config)
    for step in (10, 20, 30, 40):
        save(tmp_path, config, step)
    real, calls = store.check, 0

    def check(record: Path) -> Record:
        nonlocal calls
        calls += 1
        if calls == 1:
            (record.parent / "step-00000010.json").unlink()
        if calls == 4:
            for step in (50, 60):
                save(tmp_path, config, step)
            store.prune(tmp_path, 1)
        return real(record)

    monkeypatch.setattr(store, "check", check)
    with held(str(tmp_path / "lock"), "taken"):
        records, kept = command.check_run(tmp_path)
        assert ([record.step for record in records], kept) == ([10, 20, 30, 40, 50, 60], 1)
        assert f"note: {tmp_path} is being trained (process {os.getpid()} of " in capsys.readouterr().err
        # The line of a checkpoint comes last.
        chain = store.folder_of(tmp_path) / "chain.jsonl"
        chain.write_bytes(b"".join(chain.read_bytes().splitlines(keepends=True)[:-1]))
        (tmp_path / "checkpoints" / "step-00000070.pt").touch()
        with pytest.raises(DataError, match=r"step-00000050\.json is missing"):
            command.check_run(tmp_path)  # but nothing deletes the newest of the chain
    with pytest.raises(DataError, match=r"step-00000050\.json is missing"):
        command.check_run(tmp_path)


def test_another_end_or_manifest_is_named(run: Path, published: Published, tmp_path: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    summary["training"]["checkpoint_sha256"] = "0" * 64
    (run / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(DataError, match=r"summary\.json tells of the checkpoint 0000"):
        command.main([str(run)])
    (run / "summary.json").unlink()
    assert command.main([str(run)]) == 0
    other = publish(tmp_path / "other", train=((8, 8),))
    with pytest.raises(DataError, match="give its manifest with --manifest"):
        command.main([str(run), "--manifest", str(other.manifest)])
    with pytest.raises(UsageError, match="holds no run"):
        command.main([str(tmp_path)])
