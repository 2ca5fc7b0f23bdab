"""The end of a run: interpolations of the best weights with the start weights, measured (WiSE-FT)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from model import checkpoint
from model.entityclip import EntityClip
from model.training.averaging import interpolate
from model.training.log import append_metrics, read_metrics
from model.training.loop import BEST, checkpoint_config
from model.training.recipe import Recipe
from model.training.start import load_init

WISE_FT = "wise-ft"


def interpolate_and_validate(
    recipe: Recipe, output: Path, validate: Callable[[EntityClip], dict[str, float]], device: str
) -> Path:
    """Validate the recipe's alphas, write the best interpolation, and return the best checkpoint of the run.

    Alphas that were measured for these weights before are not measured again. Source: arXiv:2109.01903.

    Args:
        output: a run's folder with its best checkpoint.
    """
    best = output / BEST
    if not recipe.wise_ft:
        return best
    start, end = load_init(recipe), checkpoint.load(best)
    step, facts = end.config.training["step"], end.config.training["data"]
    assert isinstance(step, int)
    assert isinstance(facts, dict)
    lines = list(read_metrics(output))
    known = {line["wise_ft"]: line for line in lines if line.get("of_step") == step}
    for alpha in recipe.wise_ft:
        if alpha not in known:
            mixed = interpolate(start.model, end.model, alpha, fresh_heads=start.fresh_heads)
            known[alpha] = {"step": lines[-1]["step"], "of_step": step, "wise_ft": alpha}
            known[alpha].update(validate(mixed.to(device)))
            append_metrics(output, known[alpha])
    alpha = max(recipe.wise_ft, key=lambda alpha: (known[alpha]["recall"], alpha))
    mixed = interpolate(start.model, end.model, alpha, fresh_heads=start.fresh_heads)
    metrics = {name: value for name, value in known[alpha].items() if name not in ("step", "of_step")}
    checkpoint.save(output / WISE_FT, mixed, checkpoint_config(recipe, step, facts, metrics))
    stated = end.config.metrics.get("recall")
    assert isinstance(stated, float)
    return output / WISE_FT if metrics["recall"] > stated else best
