"""From parts of a score to probabilities: labelled pairs in, a fitted matching section and its quality out.

Arrays in, no files: `fit` and `held_out` fit, `measure` says how good probabilities are, `threshold_for` and
`best_f1` choose a threshold. `labelled` reads pairs from files, `flagnews` draws them, `plot` draws a report.
"""

from model.evaluation.calibration.fit import Choices, Trial, apply, choose, fit, held_out
from model.evaluation.calibration.pairs import LabelledPairs
from model.evaluation.calibration.quality import Bin, Losses, Report, losses, measure, wilson
from model.evaluation.calibration.threshold import (
    Choice,
    Curve,
    best_f1,
    carried_over,
    precision_recall,
    threshold_for,
)

__all__ = [
    "Bin",
    "Choice",
    "Choices",
    "Curve",
    "LabelledPairs",
    "Losses",
    "Report",
    "Trial",
    "apply",
    "best_f1",
    "carried_over",
    "choose",
    "fit",
    "held_out",
    "losses",
    "measure",
    "precision_recall",
    "threshold_for",
    "wilson",
]
