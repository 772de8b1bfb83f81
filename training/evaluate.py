"""Evaluate a run on the test split: `python -m training.evaluate --config FILE --run NAME`.

Compares the run's best checkpoint by validation with the baselines of its objective on the same rows. The figures go to
summary.json (`evaluation`) and, in full detail, to evaluation.json in the run's folder.
"""

import argparse
import sys
from collections.abc import Sequence

from common import command
from common.progress import log
from schemas import lopsided
from schemas.config import load
from schemas.manifest import load_with_shards
from schemas.runs import check_dataset
from training.tracking.run_files import run_folder

SPLIT = "test"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    flags = command.configuration_parser("python -m training.evaluate", __doc__)
    flags.add_argument("--run", required=True, metavar="NAME", help="the folder below train.runs")
    command.add_manifest_flags(
        flags, None, "a manifest, or latest; by default the one that the run was trained on"
    )
    command.add_root_flag(flags)
    flags.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="one of the run's checkpoints (.pt); by default the best on the validation split, or the last "
        "where there is no validation split",
    )
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = parser().parse_args(argv)
    config = load(arguments.config, command.overrides(arguments))

    # These take seconds, which a mistake in the configuration is not worth.
    import torch

    from training import objectives
    from training.adversarial import judging as attacks
    from training.evaluation import judging
    from training.evaluation.augmented import augmented_rows

    run = run_folder(config, arguments.run)
    check_dataset(config, run)
    record, state = judging.find_checkpoint(run, arguments.checkpoint)
    location = judging.manifest_location(config, run, arguments.manifest, arguments.root)
    manifest = load_with_shards(location, config.storage, arguments.root)
    remedy = "give the manifest that it was trained on with --manifest"
    judging.check_manifest(run, record, manifest, location, remedy)
    torch.set_num_threads(config.train.threads)
    trained = judging.as_trained(config, state)
    objective = objectives.build(trained, manifest, torch.device("cpu"))
    if not manifest.splits[SPLIT].rows:
        judging.write_without_rows(run, record, objective, SPLIT)
        print(f"the {SPLIT} split has no rows: there is nothing to judge the model by")
        return 0
    for sentence in lopsided.of_content(manifest.content):
        log(f"note: {sentence}")
    planned = attacks.plan(trained, objective, judging.method_of(state))
    pictures = augmented_rows(trained, manifest)
    model = judging.build_model(trained, manifest, objective, state, record)
    found = judging.judge(model, objective, manifest, trained, SPLIT)
    baselines = objective.baselines() if config.evaluate.baseline else {}
    found, baselines = judging.compared(found, baselines, manifest, trained, SPLIT)
    # First, so that they are not lost where the disk is full.
    print(objective.table(found, baselines), flush=True)
    attacked = None if planned is None else attacks.judge(planned, model, objective, manifest, SPLIT, found)
    if attacked is not None:
        print(attacks.table(attacked), flush=True)
    judging.write(run, record, objective, SPLIT, found, baselines, pictures, attacked)
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
