"""Language models: the loss of every token once, figures by document, the n-gram baseline, continuations, generate."""

import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from torch.nn import functional

from common.errors import CheckError, ConfigurationError, UsageError
from common.pages.page import Chart
from common.storage import Storage
from schemas.config import load
from schemas.manifest import Manifest, newest
from schemas.models.transformer_decoder import TransformerDecoder
from tests.training.published import Published, publish
from tests.training.published_tokens import LENGTH, SENTENCES, publish_tokens, texts
from training import batches, evaluate, generate, models, objectives, report, train
from training.comparison.assessment import assess
from training.input.batch_loader import BatchLoader, columns_of
from training.language.continuations import Verbatim, figures, sums
from training.language.documents import PackedRows, documents, read_packed_rows, tokenizer_of
from training.language.generation import Names, Sampling, continued
from training.language.kneser_ney import KneserNey
from training.models import transformer_decoder
from training.models.transformer_decoder import Decoder, rotation, turned
from training.objectives.next_token import NATS, NextToken
from training.parallel.world import World
from training.reporting import sections
from training.tracking import non_finite

CPU = torch.device("cpu")
FIGURES = ["perplexity", "bits_per_byte", "bleu", "rouge_l", "verbatim_share"]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish_tokens(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def manifest(published: Published) -> Manifest:
    return published.load()


@pytest.fixture(scope="module")
def trained(published: Published) -> Path:
    """Train and evaluate a small model once."""
    flags = ["--config", str(published.config), "--run", "small"]
    assert train.main([*flags, "--set", "train.epochs=12"]) == 0
    assert evaluate.main(flags) == 0
    return published.root / "runs" / "small"


def objective_of(published: Published) -> NextToken:
    found = objectives.build(load(published.config), published.load(), CPU)
    assert isinstance(found, NextToken)
    return found


def model_of(published: Published, **settings: object) -> Decoder:
    torch.manual_seed(0)
    chosen = TransformerDecoder.model_validate(
        {"kind": "transformer_decoder", "layers": 2, "width": 16, "heads": 2, "dropout": 0.0, **settings}
    )
    features = [column for column in columns_of(published.load()) if column.role == "feature"]
    model = models.build(chosen, features, objective_of(published).outputs).eval()
    assert isinstance(model, Decoder)
    return model


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_a_token_is_predicted_from_those_before_it_alone(published: Published, positions: str) -> None:
    model = model_of(published, positions=positions)
    tokens = torch.randint(1, 300, (3, LENGTH), generator=torch.Generator().manual_seed(1))
    logits = model({"tokens": tokens})["logits"]
    for place in (0, 7, LENGTH - 2):
        other = tokens.clone()
        other[:, place + 1 :] = 5
        torch.testing.assert_close(model({"tokens": other})["logits"][:, : place + 1], logits[:, : place + 1])
        earlier = tokens.clone()
        earlier[:, 0] = 299 - earlier[:, 0]
        assert not torch.allclose(model({"tokens": earlier})["logits"][:, place], logits[:, place])


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_what_was_computed_for_earlier_tokens_serves_for_later_ones(
    published: Published, positions: str
) -> None:
    model = model_of(published, positions=positions)
    tokens = torch.randint(1, 300, (2, 10), generator=torch.Generator().manual_seed(1))
    whole = model({"tokens": tokens})["logits"]
    past, fresh = None, tokens[:, :4]
    for end in range(4, 10):
        logits, past = model.extend(fresh, past)
        torch.testing.assert_close(logits, whole[:, end - 1], rtol=1e-4, atol=1e-5)
        fresh = tokens[:, end : end + 1]


def test_rotary_products_depend_on_the_distance_alone() -> None:
    query, key = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(0))

    def product(first: int, second: int) -> float:
        places = (rotation(torch.tensor([place]), 4) for place in (first, second))
        return float((turned(query, next(places)) * turned(key, next(places))).sum())

    assert product(3, 1) == pytest.approx(product(13, 11), rel=1e-4)
    assert product(3, 1) != pytest.approx(product(3, 2), rel=1e-3)


def test_the_angles_are_computed_once_for_all_layers(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(places: torch.Tensor, pairs: int) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(len(places))
        return rotation(places, pairs)

    monkeypatch.setattr(transformer_decoder, "rotation", counted)
    model_of(published)({"tokens": torch.ones(2, LENGTH, dtype=torch.int64)})
    assert asked == [LENGTH]


def test_a_model_of_twelve_layers_has_the_parameters_of_the_smallest_gpt_2() -> None:
    settings = TransformerDecoder(
        kind="transformer_decoder", layers=12, width=768, heads=12, positions="learned"
    )
    with torch.device("meta"):
        model = Decoder(settings, "tokens", 50_257, 1024, "logits")
    assert sum(one.numel() for one in model.parameters()) == 124_439_808


def test_the_loss_is_that_of_every_token_after_those_before_it(
    published: Published, manifest: Manifest
) -> None:
    objective, model = objective_of(published), model_of(published)
    with BatchLoader(manifest, "test", load(published.config).train, World(0, 1), with_ids=True) as loader:
        parts = list(loader)
    tokens = sum(int((part.features["tokens"] != 0).sum()) for part in parts)
    packing = manifest.splits["test"].packing
    assert packing is not None
    assert tokens == packing.tokens + packing.records
    for part in parts:
        terms = objective.terms(model, part)
        rows = part.features["tokens"].long()
        before = torch.cat((torch.ones_like(rows[:, :1]), rows[:, :-1]), dim=1)
        logits = model({"tokens": before})["logits"]
        expected = functional.cross_entropy(logits.transpose(1, 2), rows, reduction="none")
        torch.testing.assert_close(terms.loss.view_as(rows), expected)
        assert torch.equal(terms.weight.view_as(rows), (rows != 0).float())
        # Without gradients a few rows at a time.
        with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
            patch.setattr("training.objectives.next_token.MOST_LOGITS", 3 * LENGTH * 300)
            torch.testing.assert_close(objective.predict(model, part)[NATS], expected)


def test_the_documents_of_a_split_are_put_together_again(manifest: Manifest, published: Published) -> None:
    config = load(published.config)
    tokenizer = tokenizer_of(manifest, config.storage)
    for split, count in (("train", 120), ("test", 20)):
        found = [
            (name, tokenizer.decode(ids.tolist())) for name, ids in documents(manifest, split, config.storage)
        ]
        assert found == texts(split, count)


def naive(stream: Sequence[int], vocabulary: int, order: int, given: Sequence[int]) -> list[float]:
    """Return interpolated modified Kneser-Ney probabilities by the definition, with dictionaries."""
    tokens = [1] * order + list(stream)
    grams = {
        k: Counter(tuple(tokens[i - k + 1 : i + 1]) for i in range(order, len(tokens)))
        for k in range(1, order + 1)
    }
    everything = {
        k: {tuple(tokens[i : i + k]) for i in range(len(tokens) - k + 1)} for k in range(1, order + 1)
    }
    found = [0.0] + [1 / (vocabulary - 1)] * (vocabulary - 1)
    for k in range(1, order + 1):
        counts = grams[k] if k == order else Counter(gram[1:] for gram in everything[k + 1])
        many = Counter(counts.values())
        share = many[1] / (many[1] + 2 * many[2]) if many[1] else 0.0
        discounts = {0: 0.0}
        for n in (1, 2, 3):
            estimate = n - (n + 1) * share * many[n + 1] / many[n] if many[n] else 0.0
            discounts[n] = estimate if 0 < estimate < n else 0.75
        if k - 1 > len(given):
            break
        context = tuple(given[len(given) - k + 1 :])
        after = {gram[-1]: count for gram, count in counts.items() if gram[:-1] == context and count}
        total = sum(after.values())
        if not total:
            continue
        left = sum(min(discounts[min(count, 3)], count) for count in after.values()) / total
        found = [
            max(after.get(token, 0) - discounts[min(after.get(token, 0), 3)], 0) / total + left * found[token]
            for token in range(vocabulary)
        ]
    return found


@given(st.lists(st.integers(1, 5), min_size=1, max_size=60), st.lists(st.integers(1, 5), max_size=5))
def test_the_ngram_model_is_kneser_and_neys(stream: list[int], given_tokens: list[int]) -> None:
    model, before = KneserNey(np.array(stream), 6, 3, 1), [1, *given_tokens]
    found = model.next_token(before)
    np.testing.assert_allclose(found, naive(stream, 6, 3, before), rtol=1e-9)
    assert found.sum() == pytest.approx(1)
    row = np.array([[*given_tokens, token] for token in range(1, 6)])
    np.testing.assert_allclose(np.exp(-model.nats(row)[:, -1]), found[1:], rtol=1e-9)


def test_the_ngram_model_writes_what_it_has_read() -> None:
    stream = np.tile([2, 3, 4, 5, 6, 1], 20)
    model = KneserNey(stream, 8, 3, 1)
    assert model.greedy(np.array([2, 3]), 9) == [4, 5, 6]
    assert model.greedy(np.array([2, 3]), 2) == [4, 5]
    assert model.nats(np.array([[0, 0]])).tolist() == [[0, 0]]


def test_added_sums_give_the_scores_of_the_libraries() -> None:
    said = ["the cat sat on the mat today", "a dog", "", "no overlap whatsoever here at all"]
    truths = ["the cat sat on a mat today", "a dog barks", "something", "quite different words stand there"]
    rows = sums(said, truths, [(1, 2), (0, 0), (0, 0), (3, 4)])
    found = figures(np.array([rows.sum(axis=0), rows[0]]))
    assert found["bleu"][0] == pytest.approx(BLEU().corpus_score(said, [truths]).score)
    assert found["bleu"][1] == pytest.approx(BLEU().corpus_score(said[:1], [truths[:1]]).score)
    assert found["rouge_l"][1] == pytest.approx(6 / 7)
    assert found["verbatim_share"].tolist() == [4 / 6, 1 / 2]


def test_texts_without_white_space_are_scored_by_their_words() -> None:
    truth = "我们提供软件不作任何明示或者默示的保证"
    near, far = figures(sums([truth.replace("任", "一"), "完全不同的句子"], [truth, truth], [(0, 0)] * 2))[
        "bleu"
    ]
    assert 70 < near < 100
    assert far < 10
    assert figures(sums([truth], [truth], [(0, 0)]))["bleu"][0] == pytest.approx(100)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One two, THREE four five", (2, 3)),  # `two three four` and `three four five`
        ("one two", (0, 0)),
        ("unheard one two three", (0, 2)),
        ("我们提供软件", (3, 4)),
    ],
)
def test_what_stands_verbatim_in_training_is_found(text: str, expected: tuple[int, int]) -> None:
    verbatim = Verbatim([text, "another text of its own"], 3)
    verbatim.look_in(iter(["zero two three four five", "two one three", "我们提供软"]))
    assert verbatim.counts()[0] == expected
    assert verbatim.counts()[1][0] == 0


def test_texts_go_on_beyond_the_length_of_a_row_and_end_at_the_separator(published: Published) -> None:
    model, names = model_of(published), Names("tokens", "logits", LENGTH, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            model.tokens,
            "logits",
            lambda hidden: torch.nn.functional.one_hot(torch.full((len(hidden),), 7), 300) * 1.0,
        )
        assert continued(model, names, [[5] * 3, [6] * 3], 3 * LENGTH, Sampling()) == [[7] * 3 * LENGTH] * 2
        patch.setattr(model.tokens, "logits", lambda hidden: torch.eye(300)[[1, 7][: len(hidden)]])
        assert continued(model, names, [[5], [6]], 4, Sampling()) == [[], [7] * 4]
    seeds = [continued(model, names, [[5, 6]], 20, Sampling(1.0, 5, seed)) for seed in (1, 1, 2)]
    assert seeds[0] == seeds[1] != seeds[2]
    assert 0 not in seeds[0][0]


def test_a_small_model_learns_the_texts_and_is_judged_by_document(
    published: Published, manifest: Manifest, trained: Path
) -> None:
    evaluation = json.loads((trained / "summary.json").read_bytes())["evaluation"]
    assert list(evaluation["figures"]) == list(evaluation["baselines"]["ngram"]) == FIGURES
    assert evaluation["rows"] == 20
    assert evaluation["figures"]["perplexity"] < 4
    packing = manifest.splits["test"].packing
    assert packing is not None
    bits = math.log2(evaluation["figures"]["perplexity"]) * (packing.tokens + packing.records)
    assert evaluation["figures"]["bits_per_byte"] == pytest.approx(bits / packing.text_bytes)
    comparison = evaluation["comparisons"]["ngram"]
    assert (comparison["rows"], set(comparison["figures"])) == (20, set(FIGURES))
    perplexity = comparison["figures"]["perplexity"]
    better = evaluation["figures"]["perplexity"] < evaluation["baselines"]["ngram"]["perplexity"]
    assert perplexity["verdict"] in {"ahead" if better else "behind", "no difference"}
    details = json.loads((trained / "evaluation.json").read_bytes())["model"]["details"]
    assert details["tokens"] == packing.tokens + packing.records
    assert len(details["continuations"]) == 12
    known = dict(texts("test", 20))
    for one in details["continuations"]:
        assert known[one["record_id"]].startswith(one["prompt"] + one["truth"])


def test_the_figures_of_the_sums_are_those_that_are_resampled(published: Published) -> None:
    objective = objective_of(published)
    found = objective.baselines()["ngram"]
    assert found.results is not None
    again = objective.baselines()["ngram"]
    assert again.figures == found.figures
    assessed = assess([found.results, found.results])
    for name, value in found.figures.items():
        ends = assessed.intervals[0][name]
        assert ends is not None
        assert ends[0] <= value <= ends[1]
        assert assessed.comparisons[0].figures[name].verdict == "no difference"


def test_the_ngrams_read_no_more_than_they_learn_from(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(published.config, [f"objective.ngram_tokens={9 * LENGTH}", "objective.prompts=0"])
    objective = objectives.build(config, published.load(), CPU)
    read: list[int] = []

    def counted(manifest: Manifest, split: str, options: Storage) -> Iterator[PackedRows]:
        for rows in read_packed_rows(manifest, split, options):
            read.extend([len(rows.tokens)] * (split == "train"))
            yield rows

    monkeypatch.setattr("training.objectives.next_token.read_packed_rows", counted)
    assert objective.baselines()["ngram"].details["learned_tokens"] == 9 * LENGTH
    assert read == [8, 8]  # row groups of 8 rows


def test_the_report_shows_curves_continuations_and_packing(published: Published, trained: Path) -> None:
    assert report.main(["--config", str(published.config), "--run", "small"]) == 0
    page = (trained / "report.html").read_text()
    for part in ("Perplexity", "Bits per byte", "Continuations", "Packed rows", "Kneser-Ney"):
        assert part in page
    assert any(sentence in page for sentence in SENTENCES)


def test_generate_goes_on_with_a_prompt(
    published: Published, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def written(*flags: str) -> str:
        assert generate.main(["--run", str(trained), "--prompt", "no warranty is", *flags]) == 0
        return capsys.readouterr().out

    likeliest = written("--temperature", "0", "--tokens", "12")
    assert likeliest.startswith("no warranty is given for any")
    assert written("--seed", "3", "--temperature", "2") == written("--seed", "3", "--temperature", "2")
    assert written("--seed", "3", "--temperature", "2") != written("--seed", "4", "--temperature", "2")
    assert written("--top-k", "1", "--tokens", "12") == likeliest


def test_the_tokenizer_of_other_data_is_not_taken(trained: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", publish_tokens(tmp_path / "other", train=60)
    shutil.copytree(trained, run)
    began = json.loads((run / "run.json").read_bytes())
    place = newest(str(tmp_path / "other" / "synthetic" / "manifests"))
    began |= {"manifest": place, "manifest_from_run": place, "manifest_root": other.load().manifest_root}
    (run / "run.json").write_text(json.dumps(began))
    with pytest.raises(UsageError, match="was trained on the manifest root"):
        generate.main(["--run", str(run), "--prompt", "no warranty is"])


def test_an_audit_names_the_documents_of_each_row(
    published: Published, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        batches.main(["--config", str(published.config), "--epoch", "1", "--batch", "7", "--ranks", "2"]) == 0
    )
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = [row for line in lines for row in line["documents"]]
    assert len(rows) == sum(len(line["record_ids"]) for line in lines) == manifest.splits["train"].rows
    parts = sorted((one["record_id"], one["first"], one["last"]) for row in rows for one in row)
    whole = {name: 0 for name, _ in texts("train", 120)}
    for name, first, last in parts:
        assert first == whole[name]
        whole[name] = last + 1
    assert all(whole.values())


def test_a_batch_without_a_finite_loss_names_its_documents(published: Published) -> None:
    flags = ["--config", str(published.config), "--run", "diverging", "--set", "optimizer.learning_rate=1e38"]
    with pytest.raises(CheckError, match="not finite at step"):
        train.main(flags)
    [found] = non_finite.read(published.root / "runs" / "diverging")
    assert len(found.documents) == len(found.record_ids) == 8
    assert set(found.records) <= {name for name, _ in texts("train", 120)}
    page = sections.non_finite([found])[0]
    assert found.records[0] in str(page)


def test_a_loss_beyond_a_perplexity_is_left_out_of_its_curve() -> None:
    entries = [{"kind": "train", "step": step, "loss": loss} for step, loss in ((1, 900.0), (2, 3.0))]
    assert math.isinf(NextToken.of_loss["perplexity"](900.0))
    section = sections.curves(entries, NextToken.of_loss)
    assert [block.caption for block in section.blocks if isinstance(block, Chart)][1] == (
        "From the loss, where it is finite."
    )


def test_what_does_not_fit_is_refused(published: Published, tmp_path: Path) -> None:
    labelled = publish(tmp_path)
    flags = ["--config", str(labelled.config), "--run", "refused"]
    with pytest.raises(UsageError, match=r"needs a documents column: .*packed_tokens"):
        train.main([*flags, "--set", "objective.kind=next_token", "--set", "model.kind=transformer_decoder"])
    of_classes = ["--run", "refused", "--set", "objective={kind='classification'}"]
    with pytest.raises(UsageError, match="needs a label column"):
        train.main(["--config", str(published.config), *of_classes])
    of_rows = ["--set", "model={kind='transformer_classifier', width=32}"]
    with pytest.raises(
        UsageError, match=r"transformer_decoder; 'transformer_classifier' tells one thing a row"
    ):
        train.main(["--config", str(published.config), "--run", "refused", *of_rows])
    with pytest.raises(UsageError, match=r"'transformer_decoder' predicts the tokens of one feature"):
        train.main([*flags, "--set", "model={kind='transformer_decoder'}"])
    beside = published.config.read_text() + '[[feature]]\nname = "more"\ncolumn = "more"\nencode = "number"\n'
    two = tmp_path / "two.toml"
    two.write_text(beside)
    with pytest.raises(ConfigurationError, match="must be the only feature, so leave 'more' out"):
        load(two)
    for override, said in (
        ("columns.label=kind", "have no label: leave columns.label out"),
        ("feature.0.name=documents", "rename the feature"),
        ("model.width=31", "multiple of heads"),
        ("model.width=34", "rotary positions turn in pairs"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            load(published.config, [override])
