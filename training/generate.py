"""Continue a text with a language model: `python -m training.generate --run FOLDER --prompt TEXT`.

Takes the run's best checkpoint by validation and the tokenizer of its data set, and prints the text with its
continuation. Equal seeds give equal texts.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from common import command
from common.errors import UsageError
from schemas.config import Configuration
from schemas.manifest import load as load_manifest
from schemas.runs import RUN_FILE, manifest_of
from training.tracking.run_files import read_run


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    flags = argparse.ArgumentParser(
        prog="python -m training.generate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = flags.add_argument
    add("--run", type=Path, required=True, metavar="FOLDER", help="the run, e.g. runs/licences-lm")
    add(
        "--prompt",
        type=_prompt,
        required=True,
        metavar="TEXT",
        help="the beginning; '' for a text of its own",
    )
    positive = _number(int, 1, math.inf, "a whole number of at least 1")
    add("--tokens", type=positive, default=100, metavar="N", help="most tokens to add (default 100)")
    add(
        "--temperature",
        type=_number(float, 0, math.inf, "a number of at least 0"),
        default=1.0,
        metavar="T",
        help="0: the likeliest token (default 1)",
    )
    add("--top-k", type=positive, metavar="K", help="draw from the K likeliest tokens alone")
    seed = _number(int, 0, 2**64, "a whole number of at least 0 and below 2^64")
    add("--seed", type=seed, default=0, metavar="S", help="of the draws (default 0)")
    add("--checkpoint", metavar="PATH", help="one of the run's checkpoints (.pt); by default the best")
    command.add_root_flag(flags)
    return flags


def _number(kind: Callable[[str], float], least: int, end: float, told: str) -> Callable[[str], float]:
    """Return a parser of numbers of at least `least` and below `end`, which asks for what is told otherwise."""

    def parsed(text: str) -> float:
        with suppress(ValueError):
            if least <= (found := kind(text)) < end:
                return found
        raise argparse.ArgumentTypeError(f"give {told}")

    return parsed


def _prompt(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:  # bytes of the command line that are not UTF-8
        raise argparse.ArgumentTypeError("the prompt is not text in UTF-8") from error
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = parser().parse_args(argv)
    run: Path = arguments.run
    began = read_run(run)
    if began is None:
        raise UsageError(
            f"{run} holds no run, as {RUN_FILE} is missing: give the folder of a run, such as runs/demo, with --run"
        )

    # These take seconds, which a mistake on the command line is not worth.
    import torch

    from training import objectives
    from training.evaluation import judging
    from training.language.documents import tokenizer_of
    from training.language.generation import Sampling, continued
    from training.objectives.next_token import NextToken

    try:
        config = Configuration.model_validate(began["configuration"])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]["msg"]
        raise UsageError(
            f"{run / RUN_FILE} has a configuration that this version of ringlake, or one without a kind in it, does "
            f"not read ({first}): train again, or install what it was trained with"
        ) from error
    location = manifest_of(run, began, config.storage, None, arguments.root)
    manifest = load_manifest(location, config.storage)
    record, state = judging.find_checkpoint(run, arguments.checkpoint)
    remedy = "put that manifest back, or say with --root which folder holds the folder of its data set"
    judging.check_manifest(run, record, manifest, location, remedy)
    trained = judging.as_trained(config, state)
    objective = objectives.build(trained, manifest, torch.device("cpu"))
    if not isinstance(objective, NextToken):
        raise UsageError(
            f"the run {run.name!r} was trained with objective.kind = {trained.objective.kind!r}, and only a language "
            "model (next_token) writes texts"
        )
    torch.set_num_threads(config.train.threads)
    model = judging.build_model(trained, manifest, objective, state, record)
    tokenizer = tokenizer_of(manifest, config.storage)
    tokenizer.encode_special_tokens = True  # the name of a special token is text, as in the data set
    prompt = tokenizer.encode(arguments.prompt, add_special_tokens=False).ids
    sampling = Sampling(arguments.temperature, arguments.top_k, arguments.seed)
    [written] = continued(model, objective.names, [prompt], arguments.tokens, sampling)
    print(tokenizer.decode([*prompt, *written]))
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
