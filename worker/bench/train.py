"""`entityclip bench train`: a training step of ours beside the published way and the backbone alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from worker.bench.command_line import command_line
from worker.bench.report import Report, print_report, write_json
from worker.bench.rounds import Turns, run_in_turns
from worker.bench.train_report import OURS, PUBLISHED, Findings, Precision, StepCost, train_report
from worker.cli.model_options import check_outputs, model_errors

EXAMPLE = (
    "Example: entityclip bench train --batch 16 --rounds 3; on a GPU --device cuda --batch 192 --rounds 20"
)


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What is measured.

    Args:
        model: an open_clip ViT, or a checkpoint, whose sizes are taken and not its weights.
        precisions: each is measured; none for fp32, on a GPU for both.
        memory_rounds: pairs of processes that show what the allocator's setting does; 0 leaves it out.
    """

    model: str = "ViT-B-32"
    device: str | None = None
    batch: int = 16
    rounds: int = 3
    precisions: tuple[Precision, ...] = ()
    memory_rounds: int = 1


def train(
    model: Annotated[
        str,
        typer.Option("--model", metavar="NAME|tiny|DIR", help="An open_clip ViT, or a checkpoint's sizes."),
    ] = "ViT-B-32",
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="NAME", help="torch device.  [the GPU where there is one]"),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=2, help="Pairs a step.")] = 16,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Of all ways, in turns.")] = 3,
    precision: Annotated[
        list[Precision] | None,
        typer.Option("--precision", help="May be repeated.  [fp32; on a GPU both]"),
    ] = None,
    memory_rounds: Annotated[
        int,
        typer.Option("--memory-rounds", min=0, help="With and without keeping freed memory; 0 for none."),
    ] = 1,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Where the numbers go too.  [nowhere]")
    ] = None,
) -> None:
    """Seconds of a training step, beside the published way of computing it and the backbone alone."""
    check_outputs(json, None)
    options = TrainOptions(model, device, batch, rounds, tuple(precision or ()), memory_rounds)
    with model_errors():
        report = bench_train(options, command_line())
        print_report(report)
        if json is not None:
            write_json(report, json)


def bench_train(options: TrainOptions, command: str) -> Report:
    """Measure; blocks for minutes.

    Raises:
        ValueError, OSError: the model or the device cannot be used.
        FatalError: a measuring process failed.
    """
    import torch

    from model.device import choose_device
    from worker.bench import train_ways
    from worker.bench.machine import this_machine

    device = choose_device(options.device)
    precisions = options.precisions or _precisions(device)
    config = train_ways.architecture(options.model)
    ours, published = train_ways.build_models(config, device)
    losses = train_ways.losses(ours, published, train_ways.random_batch(config, options.batch, device))
    with torch.no_grad():
        values = {way: float(losses[way]()) for way in (OURS, PUBLISHED)}
    flops = {way: train_ways.forward_flops(loss) for way, loss in losses.items()}
    parameters = train_ways.unique_parameters(ours, published)
    found = Findings(
        precisions,
        values,
        flops,
        train_ways.time_steps(losses, parameters, device, precisions, options.rounds),
        train_ways.time_optimisers(ours, parameters, device, options.rounds),
        None if device != "cpu" or not options.memory_rounds else _time_memory(options, precisions[-1]),
    )
    settings: dict[str, str | int | float | bool] = {
        "model": options.model,
        "weights": "random",
        "batch": options.batch,
        "tokens": config.text.context_length,
        "rounds": options.rounds,
    }
    return train_report(found, command, this_machine(device), settings)


def _precisions(device: str) -> tuple[Precision, ...]:
    return (Precision.FP32,) if device == "cpu" else (Precision.FP32, Precision.BF16)


def _time_memory(options: TrainOptions, precision: Precision) -> Turns[StepCost]:
    from worker.bench import train_memory

    return run_in_turns(train_memory.ways(options.model, options.batch, precision), options.memory_rounds)
