"""A data set and its runs, copied or moved: they are read where they lie now, and a copy reads its own files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import DataError, UsageError
from common.storage import Storage
from schemas.config import load
from schemas.runs import manifest_of
from tests.training.published import Published, publish
from training import batches, evaluate, report, train, verify
from training.engine.preparation import check_configuration

RUN = "first"
ALONE = ("--set", "evaluate.baseline=false")  # these data sets have no texts


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Make a project folder with a data set and a run on it, named by relative paths in its configuration."""
    folder = tmp_path_factory.mktemp("project")
    published = publish(folder, train=((16, 8),), validation=((8,),), test=((6,),))
    text = published.config.read_text(encoding="utf-8").replace(str(folder), ".")
    published.config.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert train.main(["--config", "synthetic.toml", "--run", RUN]) == 0
    return published


def damage(folder: Path) -> None:
    for file in (*folder.rglob("*.parquet"), *folder.rglob("manifests/*.json")):
        file.write_bytes(b"damaged")


@pytest.mark.parametrize("spoil", [shutil.rmtree, damage])
def test_a_copied_project_reads_its_own_files(
    project: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]
) -> None:
    original = shutil.copytree(project.root, tmp_path / "original")
    monkeypatch.chdir(original)
    assert train.main(["--config", "synthetic.toml", "--run", RUN, "--stop-after", "2", "--again"]) == 0
    copy = shutil.copytree(original, tmp_path / "copy")
    monkeypatch.chdir(copy)
    spoil(original)
    flags = ["--config", "synthetic.toml", "--run", RUN]
    assert train.main([*flags, "--resume"]) == 0
    assert evaluate.main([*flags, *ALONE]) == 0
    assert report.main(flags) == 0
    assert verify.main([f"runs/{RUN}"]) == 0
    assert batches.main(["--run", f"runs/{RUN}", "--epoch", "0"]) == 0
    page = (copy / "runs" / RUN / "report.html").read_text(encoding="utf-8")
    assert str(copy) in page
    assert str(original) not in page


def test_moved_data_are_found_with_root(
    project: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(project.root, tmp_path / "project")
    shutil.rmtree(folder / "runs")
    monkeypatch.chdir(folder)
    flags = ["--config", "synthetic.toml", "--run", RUN]
    assert train.main(flags) == 0
    shutil.move(folder / "synthetic", tmp_path / "disk" / "synthetic")
    # A file that the root does not lead to is never read instead.
    with pytest.raises(DataError, match="say with --root which folder holds the folder of its data set"):
        verify.main([f"runs/{RUN}"])
    with pytest.raises(DataError, match=r"is not in .*/nowhere/synthetic/manifests"):
        verify.main([f"runs/{RUN}", "--root", str(tmp_path / "nowhere")])
    root = ["--root", str(tmp_path / "disk")]
    assert verify.main([f"runs/{RUN}", *root]) == 0
    assert batches.main(["--run", f"runs/{RUN}", "--epoch", "0", *root]) == 0
    assert evaluate.main([*flags, *root, *ALONE]) == 0
    assert report.main([*flags, *root]) == 0
    page = (folder / "runs" / RUN / "report.html").read_text(encoding="utf-8")
    assert page.count(f"{tmp_path}/disk/synthetic/manifests/") == 2  # where it is, and to repeat the run with
    assert f"{folder}/synthetic/manifests" not in page
    assert train.main(["--config", "synthetic.toml", "--run", "second", *root]) == 0
    began = json.loads((folder / "runs" / "second" / "run.json").read_bytes())
    assert began["manifest_from_run"].startswith("../../../disk/synthetic/manifests/")


def test_a_run_that_was_moved_alone_finds_its_data_where_they_were(
    project: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(project.root / "runs" / RUN, tmp_path / "archive" / RUN)
    monkeypatch.chdir(tmp_path)
    assert verify.main([str(run)]) == 0
    assert batches.main(["--run", str(run), "--epoch", "0"]) == 0
    flags = ["--config", str(project.config), "--run", RUN]
    moved = ["--set", f"train.runs={tmp_path / 'archive'}", "--root", str(project.root)]
    assert evaluate.main([*flags, *moved, *ALONE]) == 0
    assert report.main([*flags, *moved]) == 0


def test_a_run_of_another_data_set_is_not_in_order(
    project: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(project.root, tmp_path / "project")
    monkeypatch.chdir(folder)
    file = folder / "runs" / RUN / "run.json"
    document = json.loads(file.read_bytes())
    document["configuration"]["dataset"]["name"] = "letters"
    file.write_text(json.dumps(document), encoding="utf-8")
    refused = "the run 'first' in runs is of the data set 'letters', the configuration of 'synthetic'"
    for flags in (["--check"], ["--check", "--resume"], []):
        with pytest.raises(UsageError, match=refused):
            train.main(["--config", "synthetic.toml", "--run", RUN, *flags])
    for command in (evaluate, report):
        with pytest.raises(UsageError, match=refused):
            command.main(["--config", "synthetic.toml", "--run", RUN])
    with pytest.raises(UsageError, match=refused):
        verify.main([f"runs/{RUN}", "--config", "synthetic.toml"])
    assert (folder / "runs" / RUN / "summary.json").exists()


def test_check_says_what_resuming_would_say(
    project: Published, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.root)
    flags = ["--config", "synthetic.toml", "--run", RUN, "--check", "--resume"]
    assert train.main(flags) == 0
    with pytest.raises(UsageError, match=r"model\.width was 16 in the run 'first' and is now 32"):
        train.main([*flags, "--set", "model.width=32"])
    assert "in order" in capsys.readouterr().err


def test_the_record_of_an_earlier_version_names_the_manifest_by_its_absolute_path(
    project: Published, tmp_path: Path
) -> None:
    root = project.load().manifest_root
    configuration = {"dataset": {"name": "synthetic"}}
    began = {"manifest": str(project.manifest), "manifest_root": root, "configuration": configuration}
    assert manifest_of(tmp_path, began, Storage(), None, None) == str(project.manifest)
    assert manifest_of(tmp_path, began, Storage(), None, str(project.root)) == str(project.manifest)


def test_a_data_set_of_an_earlier_version_is_trained_on(
    project: Published, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.root)
    config, manifest = load(project.config), project.load()
    configuration = json.loads(json.dumps(manifest.content.configuration))
    for section, key in ((configuration["columns"], "rename"), (configuration["source"][0], "follow_links")):
        del section[key]
    content = manifest.content.model_copy(update={"configuration": configuration})
    check_configuration(config, manifest.model_copy(update={"content": content}))
    assert "has changed" not in capsys.readouterr().err
    configuration["columns"]["label"] = "other"
    with pytest.raises(UsageError, match="not that of the data set: columns"):
        check_configuration(config, manifest.model_copy(update={"content": content}))
