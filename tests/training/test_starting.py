"""`model.start`: the body of another run's model, proven by its chain, where the token ids mean the same."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from common.errors import ConfigurationError, DataError, UsageError
from schemas.config import Configuration, load
from schemas.models import Start
from schemas.models.transformer_classifier import TransformerClassifier
from schemas.runs import roots_of
from schemas.split_content import SplitContent
from tests.training.pretrained_folder import a_tokenizer
from tests.training.published import Published, publish
from tests.training.published_tables import publish_table
from tests.training.published_tokens import publish_tokens
from training import models, report, train
from training.checkpoints import starting, store
from training.engine import overlap
from training.input.batch_loader import columns_of


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Publish packed tokens, and train a language model on them."""
    found = publish_tokens(tmp_path_factory.mktemp("tokens"), train=40)
    assert train.main(["--config", str(found.config), "--run", "first"]) == 0
    return found


def configured(published: Published, *overrides: str) -> Configuration:
    return load(published.config, [f"model.start={published.root}/runs/first", *overrides])


def test_a_training_goes_on_with_the_weights_of_another_run(published: Published) -> None:
    first, second = (published.root / "runs" / name for name in ("first", "second"))
    flags = ["--config", str(published.config), "--set", f"model.start={first}", "--run", "second"]
    assert train.main([*flags, "--check"]) == 0
    assert train.main([*flags, "--stop-after", "3"]) == 0
    assert train.main([*flags, "--resume"]) == 0
    best, _ = store.best_good(first, print) or pytest.fail("no checkpoint")
    began = json.loads((second / "run.json").read_bytes())
    assert began["started_from"]["sha256"] == best.sha256
    assert began["started_from"]["left"] == []
    assert {record.started_from for record in store.read_chain(second)} == {best.sha256}
    assert {record.started_from for record in store.read_chain(first)} == {None}
    assert roots_of(second) == roots_of(first) == {published.load().manifest_root}
    losses = [store.read_chain(run)[-1].validation_loss for run in (first, second)]
    assert losses[0] is not None
    assert losses[1] is not None
    assert losses[1] < losses[0]


def classifier(published: Published, heads: int = 2, **start: Any) -> tuple[nn.Module, Configuration]:
    """Return a classifier, and the configuration that starts it: by default from the language model."""
    given = start or {"run": f"{published.root}/runs/first"}
    settings = TransformerClassifier(layers=2, width=32, heads=heads, start=Start(**given))
    features = [column for column in columns_of(published.load()) if column.role == "feature"]
    model = models.build(settings, features, {"logits": 3})
    return model, load(published.config).model_copy(update={"model": settings})


def test_a_classifier_takes_the_layers_of_a_language_model(
    published: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    model, config = classifier(published)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = starting.find(config, published.load())
    assert found is not None
    start = starting.take(model, config, found)
    after, saved = model.state_dict(), found.tensors
    for name in start.taken:
        assert torch.equal(after[name], saved[name.removeprefix("encoders.0.")])
    for name in after.keys() - set(start.taken):
        assert torch.equal(after[name], before[name])
    assert "encoders.0.tokens.weight" in start.taken
    assert "encoders.0.layers.0.projections.weight" in start.taken
    # The decoder has one layer, and rotary positions.
    assert {name.split(".")[2] for name in start.left} == {"positions", "layers"}
    assert all(name.startswith(("encoders.0.positions", "encoders.0.layers.1")) for name in start.left)
    assert "all but encoders.0.positions.weight" in capsys.readouterr().err


def test_weights_of_other_heads_are_refused(published: Published) -> None:
    _, config = classifier(published, heads=4)
    with pytest.raises(UsageError, match=r"has model\.heads = 2, this model 4: give it the same"):
        starting.find(config, published.load())


def test_records_to_judge_by_that_the_other_run_learned_from_are_counted(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def changed(splits: dict[str, SplitContent]) -> None:
        splits["train"], splits["test"] = splits["test"], splits["train"]

    other = publish_tokens(tmp_path / "swapped", train=40, changed=changed)
    flags = ["--config", str(other.config), "--set", f"model.start={published.root}/runs/first"]
    assert train.main([*flags, "--run", "second", "--stop-after", "1"]) == 0
    told = "has learned from 40 of the 40 records of the test split: figures on them are too good"
    assert told in capsys.readouterr().err
    began = json.loads((other.root / "runs" / "second" / "run.json").read_bytes())
    found = began["started_from"]["overlap"]
    assert found["splits"] == {
        "validation": {"records": 12, "learned": 0},
        "test": {"records": 40, "learned": 40},
    }
    assert found["unchecked"] == []
    assert report.main([*flags, "--run", "second"]) == 0
    assert told in (other.root / "runs" / "second" / "report.html").read_text()


def test_where_the_other_data_are_gone_it_cannot_be_checked(published: Published, tmp_path: Path) -> None:
    other = publish_tokens(tmp_path / "other", train=20)
    config, manifest, run = load(other.config), other.load(), tmp_path / "moved" / "first"
    shutil.copytree(published.root / "runs" / "first", run)
    began = json.loads((run / "run.json").read_bytes())
    began |= {"manifest": str(tmp_path / "gone.json"), "manifest_from_run": "../../gone.json"}
    (run / "run.json").write_text(json.dumps(began))
    root = published.load().manifest_root
    found = overlap.overlap(run, config, manifest)
    assert found == {
        "splits": {"validation": {"records": 12, "learned": 0}, "test": {"records": 20, "learned": 0}},
        "unchecked": [root],
    }
    [said] = overlap.sentences(found)
    assert "could not be checked" in said
    assert root[:16] in said


def a_file(published: Published, tmp_path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Write the layers of the language model under other names; return the section `model.start` and the tensors."""
    found = store.best_good(published.root / "runs" / "first", print)
    assert found is not None
    tensors = {
        f"their.{name}": tensor for name, tensor in found[1]["model"].items() if name.startswith("layers.")
    }
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({**tensors, "their.unused": torch.zeros(3)}, file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    (tokenizer,) = (one for one in published.load().content.artifacts if one.purpose == "tokenizer")
    names = {"encoders.0.*": "their.*"}
    place = published.load().artifact_uri(tokenizer.sha256)
    return {"file": str(file), "sha256": sha256, "tokenizer": place, "names": names}, tensors


def test_a_file_by_a_map_of_names(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, tensors = a_file(published, tmp_path)
    model, config = classifier(published, **given)
    found = starting.find(config, published.load())
    assert found is not None
    start = starting.take(model, config, found)
    assert [name.replace("encoders.0.", "their.") for name in start.taken] == list(tensors)
    after = model.state_dict()
    for name in start.taken:
        assert torch.equal(after[name], tensors[name.replace("encoders.0.", "their.")])
    assert start.as_json()["sha256"] == given["sha256"]
    assert start.as_json()["file"] == given["file"]
    assert "it has no use for their.unused" in capsys.readouterr().err
    model, config = classifier(published, **given, complete=True)
    with pytest.raises(
        UsageError, match=r"has no tensors of the name and shape of encoders\.0\.tokens\.weight, "
    ):
        starting.take(model, config, found)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sha256": "0" * 64}, "is not the file that was meant: its SHA-256 is"),
        ({"tokenizer": None}, r"does not say what its token ids mean: give tokenizer = the tokenizer\.json"),
        (
            {"names": {"encoders.0.*": "other.*"}},
            r"names no tensor of .*weights\.safetensors, which has their\.",
        ),
        (
            {"names": {"decoder.*": "their.*"}},
            r"'decoder\.\*' = 'their\.\*' names no tensor of this model, which has",
        ),
        ({"names": {}}, "no tensor of .* has the name and shape of one of this model"),
        (
            {"names": {"encoders.0.*": "their.*", "encoders.0.layers.*": "their.layers.*"}},
            r"entries before 'encoders\.0\.layers\.\*' name all that it does",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    published: Published, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    model, config = classifier(published, **(a_file(published, tmp_path)[0] | changed))
    with pytest.raises(UsageError, match=message):
        starting.take(model, config, cast(starting.Weights, starting.find(config, published.load())))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda tensor: (100 * tensor).to(torch.int8), "values of the type int8, which are no weights"),
        (lambda tensor: tensor.to(torch.float8_e4m3fn), "values of the type float8_e4m3fn"),
        (lambda tensor: tensor * torch.nan, "values that are not finite"),
        (lambda tensor: tensor.double() + 1e300, "values that are not finite"),
    ],
)
def test_values_that_are_no_weights_are_refused(
    published: Published, tmp_path: Path, changed: Callable[[Tensor], Tensor], message: str
) -> None:
    given, tensors = a_file(published, tmp_path)
    safetensors.torch.save_file({n: changed(tensor) for n, tensor in tensors.items()}, given["file"])
    given["sha256"] = hashlib.sha256(Path(given["file"]).read_bytes()).hexdigest()
    model, config = classifier(published, **given)
    with pytest.raises(DataError, match=message):
        starting.take(model, config, cast(starting.Weights, starting.find(config, published.load())))


def test_a_file_of_other_token_ids_is_refused(published: Published, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_bytes(a_tokenizer())
    given = a_file(published, tmp_path)[0] | {"tokenizer": str(tmp_path / "other.json")}
    _, config = classifier(published, **given)
    with pytest.raises(
        UsageError, match=r"would mean other words\. Publish it with feature\.tokenizer = \".*other"
    ):
        starting.find(config, published.load())


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("{}", "give either the run or the file"),
        ("{run = 'runs/a', file = 'b'}", "give either the run or the file"),
        ("{file = 'weights'}", "sha256 is missing: give what `sha256sum weights` prints"),
        ("{run = 'runs/a', tokenizer = 'b'}", "belong to a file"),
        ("{run = 'runs/a', names = {'a.*' = 'b'}}", r"'a\.\*' and 'b' must both have one \*"),
        ("{file = 'weights', sha256 = 'abc'}", "64 hexadecimal digits"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(published: Published, start: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load(published.config, [f"model.start={start}"])


def test_the_folder_of_a_run_is_short_for_a_table(published: Published) -> None:
    short = load(published.config, ["model.start=runs/x"])
    assert short.model == load(published.config, ["model.start={run = 'runs/x'}"]).model
    assert (
        short.model.model_dump(mode="json")["start"] == "runs/x"
    )  # as in the checkpoints of earlier versions


def test_a_model_of_a_table_goes_on_where_the_columns_are_the_same(tmp_path: Path) -> None:
    other = publish_table(tmp_path / "table", '[model]\nkind = "mlp"\nwidths = [8]')
    flags = ["--config", str(other.config)]
    assert train.main([*flags, "--run", "first", "--stop-after", "1"]) == 0
    first = other.root / "runs" / "first"
    for part, heads in (("body", False), ("all", True)):
        more = ["--set", f"model.start={{run = '{first}', part = '{part}'}}", "--run", part]
        assert train.main([*flags, *more, "--stop-after", "1"]) == 0
        began = json.loads((other.root / "runs" / part / "run.json").read_bytes())["started_from"]
        assert ("output.weight" in began["taken"]) is heads
        assert {"hidden.0.weight", "columns.categories.category 0.weight"} <= {*began["taken"]}
        assert began["left"] == []
    config, manifest = load(other.config, [f"model.start={first}"]), other.load()
    columns = [
        column.model_copy(update={"name": "e"}) if column.name == "d" else column
        for column in manifest.content.columns
    ]
    changed = manifest.model_copy(
        update={"content": manifest.content.model_copy(update={"columns": columns})}
    )
    with pytest.raises(UsageError, match=r"are not those of this data set, in their order .*: d, e differ"):
        starting.find(config, changed)


def test_the_column_that_is_predicted_is_none_that_the_model_reads(tmp_path: Path) -> None:
    """With another target, the first layer has as many columns, and reads one of them as another."""
    section = '[objective]\nkind = "regression"\ntarget = "d"\n[model]\nkind = "mlp"\nwidths = [8]'
    other = publish_table(tmp_path / "table", section)
    assert train.main(["--config", str(other.config), "--run", "first", "--stop-after", "1"]) == 0
    config = load(other.config, [f"model.start={other.root}/runs/first"])
    assert starting.find(config, other.load()) is not None
    config = load(other.config, [f"model.start={other.root}/runs/first", "objective.target=c"])
    with pytest.raises(UsageError, match=r"are not those of this data set, .*: c, d differ"):
        starting.find(config, other.load())


def test_what_does_not_fit_is_refused(published: Published, tmp_path: Path) -> None:
    manifest = published.load()
    with pytest.raises(UsageError, match=r"no checkpoint in .*: give the folder of a run, such as runs/demo"):
        starting.find(load(published.config, [f"model.start={tmp_path}"]), manifest)
    damaged = tmp_path / "damaged"
    shutil.copytree(published.root / "runs" / "first", damaged)
    for file in (damaged / "checkpoints").glob("*.pt"):
        file.write_bytes(b"")
    with pytest.raises(UsageError, match=r"no checkpoint of the run .*damaged is good, see above"):
        starting.find(load(published.config, [f"model.start={damaged}"]), manifest)
    config = configured(published, "model.width=16")
    found = starting.find(config, manifest)
    assert found is not None
    features = [column for column in columns_of(manifest) if column.role == "feature"]
    narrow = models.build(config.model, features, {"logits": features[0].vocabulary or 0})
    with pytest.raises(UsageError, match="give model the same widths"):
        starting.take(narrow, config, found)
    other = publish(tmp_path / "other")
    flags = ["--config", str(other.config), "--set", f"model.start={published.root}/runs/first"]
    with pytest.raises(UsageError, match="would mean other words"):
        train.main([*flags, "--run", "refused", "--check"])
    with pytest.raises(UsageError, match="would mean other words"):
        train.main([*flags, "--run", "refused"])
    assert not (other.root / "runs" / "refused" / "checkpoints").exists()
