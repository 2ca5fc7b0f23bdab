"""How long the device computed: what overlaps counts once."""

from __future__ import annotations

import pytest
import torch

from model.serving.device_meter import DeviceMeter


@pytest.mark.parametrize(
    ("calls", "seconds"),
    [
        ([(0.0, 1.0), (2.0, 3.5)], 2.5),
        ([(0.0, 2.0), (1.0, 3.0)], 3.0),
        ([(1.0, 1.5), (0.0, 2.0)], 2.0),
        ([(1.0, 1.5), (3.0, 3.5), (0.0, 4.0)], 4.0),
        ([(0.0, 1.0), (3.0, 3.5), (2.0, 4.0)], 3.0),
    ],
)
def test_overlapping_calls_count_once(
    calls: list[tuple[float, float]], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = DeviceMeter(torch.device("cpu"))
    for begun, ended in calls:  # in the order in which they end
        clock = iter((begun, ended, ended))
        monkeypatch.setattr("model.serving.device_meter.time.perf_counter", lambda clock=clock: next(clock))
        with meter.stream():
            pass
    assert meter.seconds() == pytest.approx(seconds)
