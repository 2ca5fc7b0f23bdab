"""What a training step costs with `model.serving.allocator.keep_freed_memory` and without.

It matters once single tensors are larger than 32 MiB, which glibc maps anew each time: at the size of `tiny`
from a batch of about 160 on. The allocator cannot be set back, so each measurement is a process of its own,
which runs this module: `python -m worker.bench.train_memory MODEL BATCH PRECISION keep|default`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import msgspec

from worker.bench.train_report import DEFAULT, KEPT, OURS, Precision, StepCost
from worker.errors import FatalError
from worker.store.process import child_environment

_WARM_UP, _STEPS = 1, 2
_TIMEOUT_S = 600.0


def ways(model: str, batch: int, precision: Precision) -> dict[str, Callable[[], StepCost]]:
    """Both settings, for `run_in_turns`; each call is a process that ends with it."""
    return {way: partial(_in_a_process, [model, str(batch), precision.value, way]) for way in (DEFAULT, KEPT)}


def _in_a_process(arguments: list[str]) -> StepCost:
    environment = {name: value for name, value in child_environment().items() if "MALLOC" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "worker.bench.train_memory", *arguments],
        env=environment,
        capture_output=True,
        check=False,
        timeout=_TIMEOUT_S,
    )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise FatalError(f"a measuring process ended with {done.returncode}: {said[-1] if said else ''}")
    return msgspec.json.decode(done.stdout, type=StepCost)


def main(arguments: list[str]) -> None:
    """Measure in this process; the result goes to stdout as JSON."""
    model, batch, precision, way = arguments
    if way == KEPT:
        from model.serving.allocator import keep_freed_memory

        if not keep_freed_memory():
            sys.exit("this C library's allocator cannot be set")
    step = _step(model, int(batch), Precision(precision))
    for _ in range(_WARM_UP):
        step()
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for _ in range(_STEPS):
        step()
    wall_s, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    cost = StepCost(
        wall_s / _STEPS,
        (after.ru_utime - before.ru_utime) / _STEPS,
        (after.ru_stime - before.ru_stime) / _STEPS,
        (after.ru_minflt - before.ru_minflt) / _STEPS,
    )
    print(json.dumps(msgspec.to_builtins(cost)))


def _step(model: str, batch: int, precision: Precision) -> Callable[[], None]:
    from model.training.optimizer import build_optimizer
    from model.training.recipe import OptimizerConfig
    from worker.bench import train_ways

    config = train_ways.architecture(model)
    ours, published = train_ways.build_models(config, "cpu")
    loss = train_ways.losses(ours, published, train_ways.random_batch(config, batch, "cpu"))[OURS]
    parameters = list(ours.parameters())
    optimizer = build_optimizer(ours, OptimizerConfig())

    def step() -> None:
        train_ways.run_step(loss, parameters, "cpu", precision)
        optimizer.step()

    return step


if __name__ == "__main__":
    main(sys.argv[1:])
