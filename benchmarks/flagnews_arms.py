"""FlagNews: every arm and variant on paired folds, beside the yardsticks, and the gate's verdict.

    python -m benchmarks.flagnews_arms --setting small --arms clip concat full full-shuffled --folds 0 1 2
    python -m benchmarks.flagnews_arms --setting full --device cuda            (all arms on five folds)

Every run is done once: the same command goes on where it was ended, and with all runs done it only writes
`OUT/<setting>/report.json` and `report.md` again. Two commands with different arms may work in one folder at
once when the start is there (`--only-start` makes it).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.evaluation.arms import ARMS, GATE_FOLDS, SETTINGS, Experiment, load_scores
from model.evaluation.arms_report import ArmScores, Report, report, yardstick_cells
from model.evaluation.flagnews import chance, colour_word_recall, histogram_recall
from model.flagnews.bank import generator_hash
from model.flagnews.pools import Pool, seen_mask
from model.training import flagnews_run
from model.training.recipe import load_recipe

Recalls = dict[str, dict[str, float]]


def main() -> None:
    """Run what is not there yet, then report."""
    options = _options()
    torch.set_num_threads(options.threads)
    experiment = Experiment(
        SETTINGS[options.setting], options.output / options.setting, device=options.device
    )
    print(f"start: {experiment.start}", flush=True)
    if options.only_start:
        return
    for fold in options.folds:
        for name in options.arms:
            print(f"done: {experiment.run(name, fold).name}", flush=True)
    if not options.no_report:
        print(write_report(experiment, options.arms, options.folds))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--setting", choices=list(SETTINGS), default="small")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--folds", nargs="+", type=int, choices=GATE_FOLDS, default=list(GATE_FOLDS))
    parser.add_argument("--output", type=Path, default=Path("runs/flagnews-arms"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only-start", action="store_true", help="make the common start and end")
    parser.add_argument("--no-report", action="store_true", help="leave the report to another command")
    return parser.parse_args()


def write_report(experiment: Experiment, names: Sequence[str], folds: Sequence[int]) -> str:
    """Write `report.json` and `report.md` from finished runs and return the latter."""
    folders = {name: [experiment.run(name, fold) for fold in folds] for name in names}
    pools = experiment.pools()["test"]
    seen = [seen_mask(pools[0].look, fold) for fold in folds]
    result = report(
        [
            ArmScores(name, load_scores(runs, "test"), load_scores(runs, "validation"), seen)
            for name, runs in folders.items()
        ]
    )
    measured = yardsticks(experiment, pools, seen)
    runs = {
        name: [json.loads((folder / "facts.json").read_text()) for folder in of_arm]
        for name, of_arm in folders.items()
    }
    data = {
        "generator": generator_hash(),
        "folds_run": list(folds),
        "test_pools": len(pools),
        "looks": len(pools[0].look),
        **result.data,
        "yardsticks": measured,
        "runs": runs,
    }
    (experiment.output / "report.json").write_text(json.dumps(data, indent=2) + "\n")
    costs = {
        name: (of_arm[0]["forward_flops"] / 1e9, float(np.mean([run["train_s"] for run in of_arm])))
        for name, of_arm in runs.items()
    }
    text = _markdown(result, measured, costs, folds)
    (experiment.output / "report.md").write_text(text)
    return text


def yardsticks(
    experiment: Experiment, pools: Sequence[Pool], seen: Sequence[NDArray[np.bool_]]
) -> dict[str, Recalls]:
    """Chance, colour histogram and oracle bag of colour words, means over folds.

    The histogram has no pictures of unseen looks and says nothing of them.
    """
    training, _ = flagnews_run.training_bank(load_recipe(experiment.setting.arms), experiment.cache)
    blind = {
        f"{direction}_{k}": value
        for direction in ("image_to_text", "text_to_image")
        for k, value in chance(len(pools[0].look)).items()
    }
    histogram = _mean([histogram_recall(training, pools, mask) for mask in seen])
    return {
        "chance": {"unseen": blind, "seen": blind},
        "colour histogram": {"seen": histogram["seen"]},
        "oracle bag of colour words": _mean(
            [colour_word_recall(pools, mask, flagnews_run.TEST_SEED) for mask in seen]
        ),
    }


def _mean(folds: Sequence[Recalls]) -> Recalls:
    return {
        group: {name: float(np.mean([fold[group][name] for fold in folds])) for name in row}
        for group, row in folds[0].items()
    }


def _markdown(
    result: Report,
    measured: dict[str, Recalls],
    costs: dict[str, tuple[float, float]],
    folds: Sequence[int],
) -> str:
    table = [*result.table, *(yardstick_cells(name, recalls) for name, recalls in measured.items())]
    cost_rows = [[name, f"{gflops:.1f}", f"{seconds:.0f}"] for name, (gflops, seconds) in costs.items()]
    parts = [
        f"# FlagNews: arms and variants, folds {', '.join(map(str, folds))}",
        "Recall in per cent among all looks of a pool, mean ± half of its 95 % bootstrap interval.",
        _rows(table),
        "## Cost",
        _rows([["arm", "forward GFLOP a step", "training, mean s a run"], *cost_rows]),
        "## Gate",
        "\n".join(f"{verdict.step}. {verdict.sentence}" for verdict in result.verdicts),
    ]
    return "\n\n".join(parts) + "\n"


def _rows(table: Sequence[Sequence[str]]) -> str:
    header, *rows = table
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows))


if __name__ == "__main__":
    main()
