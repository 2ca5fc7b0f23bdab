"""The benchmark of encoding on a GPU, as far as it runs without one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.gpu_decode import (
    DeviceDecoder,
    DeviceDecoding,
    device_decoding,
    draw_jpegs,
    model_pixels,
    same_pixels,
)
from benchmarks.gpu_device import DeviceRow, Texts, flops_a_post
from benchmarks.gpu_encoding import Plan, architecture, run_model
from benchmarks.gpu_report import EndToEnd, ModelRun, PoolRate, tables, verdicts
from model.config import ArchitectureConfig, ExpertConfig, TextConfig, VisionConfig
from tests.open_clip_models import CONFIG, NAME, known_as

CPU = torch.device("cpu")
TEXTS = Texts(caption=6, explanation=10)


def block(rows: int, width: int) -> int:
    """Operations of a transformer block: four products with weights, two of attention."""
    return 2 * rows * width * 12 * width + 4 * rows * rows * width


def last_block(rows: int, width: int) -> int:
    """The same where one row is wanted: keys and values of all, the rest of one."""
    return 2 * rows * width * 2 * width + 2 * width * 10 * width + 4 * rows * width


def test_operations_are_those_of_the_towers_that_serve() -> None:
    config = ArchitectureConfig(
        embed_dim=32,
        vision=VisionConfig(image_size=32, patch_size=16, width=64, layers=3),
        text=TextConfig(width=128, heads=2, layers=2, vocab_size=64, context_length=20),
        experts=ExpertConfig(1, 1, 1),
    )
    image = 2 * 4 * 64 * 3 * 16 * 16 + 2 * block(5, 64) + last_block(5, 64) + 2 * 64 * 32
    texts = sum(block(rows, 128) + last_block(rows, 128) + 2 * 128 * 32 for rows in (6, 10))
    assert flops_a_post(config, TEXTS) == image + texts


def test_a_picture_has_the_same_pixels_at_every_place_of_a_batch() -> None:
    files = draw_jpegs(3, (90, 60))
    decoder = DeviceDecoder(32, CPU)
    alone = decoder(files[:1])[0].numpy()
    for place in range(3):
        batch = [*files[1 : 1 + place], files[0], *files[1 + place :]]
        assert same_pixels(decoder(batch)[place].numpy(), alone)


def test_pictures_of_several_sizes_keep_their_places() -> None:
    files = [*draw_jpegs(1, (90, 60)), *draw_jpegs(1, (60, 90), seed=1), *draw_jpegs(1, (90, 60), seed=2)]
    decoder = DeviceDecoder(32, CPU)
    together = decoder(files).numpy()
    for pixels, file in zip(together, files, strict=True):
        assert same_pixels(pixels, decoder([file])[0].numpy())


def test_a_picture_decoded_on_the_device_looks_like_the_workers() -> None:
    (file,) = draw_jpegs(1, (90, 60))
    device, worker = DeviceDecoder(32, CPU)([file])[0].numpy(), model_pixels(file, 32)
    assert np.abs(device.astype(int) - worker.astype(int)).mean() < 2


def test_pixels_that_differ_by_more_than_rounding_are_seen() -> None:
    pixels = np.full((4, 4, 3), 100, np.uint8)
    rounded, other = pixels.copy(), pixels.copy()
    rounded[0, 0, 0], other[3, 3, 2] = 101, 97
    assert same_pixels(pixels, rounded)
    assert not same_pixels(pixels, other)


def test_batches_decoded_for_a_while_are_all_checked() -> None:
    result = device_decoding(draw_jpegs(3, (90, 60)), 32, CPU, batch=4, for_s=0.0)
    assert (result.batches, result.wrong_canaries) == (1, 0)


def run(device: float, pool: float, other: float, *ends: EndToEnd, wrong: int = 0) -> ModelRun:
    rows = [
        DeviceRow("plain", "channels_last", 64, device / 2, None),
        DeviceRow("compiled", "channels_last", 64, device, 5),
    ]
    decoding = DeviceDecoding("nvJPEG", other, 10, wrong, 0.2)
    return ModelRun(
        "ViT",
        "bf16",
        10**9,
        3.0,
        0.9999,
        rows,
        [PoolRate(1, pool / 2), PoolRate(2, pool)],
        decoding,
        list(ends),
    )


def test_the_bound_is_the_slower_of_device_and_the_decoder_in_use() -> None:
    by_pool, by_device = EndToEnd("pool", 64, 80.0), EndToEnd("nvJPEG", 64, 80.0)
    numbers = run(200.0, 100.0, 400.0, by_pool, by_device)
    assert numbers.bound(by_pool) == (100.0, "decoding")
    assert numbers.bound(by_device) == (200.0, "device")


def test_the_verdict_says_what_was_reached_and_where_nvjpeg_wins() -> None:
    ends = EndToEnd("pool", 64, 80.0), EndToEnd("nvJPEG", 64, 120.0)
    said = "\n".join(verdicts(run(200.0, 100.0, 400.0, *ends), peak=4e11))
    assert "200.0 posts/s (compiled, channels_last, batch 64), 50.0% (aim 45%: reached)" in said
    assert "end to end with pool 80.0 posts/s, 80.0% (aim 80%: reached) of the decoding bound" in said
    assert "end to end with nvJPEG 120.0 posts/s, 60.0% (aim 80%: missed) of the device bound" in said
    assert "nvJPEG decodes 4.00 × what 2 threads do (it wins" in said
    assert "end to end nvJPEG makes × 1.50 of the pool's posts/s" in said


def test_a_decoder_with_wrong_pixels_is_not_called_a_winner() -> None:
    said = "\n".join(verdicts(run(200.0, 100.0, 400.0, EndToEnd("nvJPEG", 64, 120.0), wrong=1), peak=4e11))
    assert "1 wrong canaries in 10 batches" in said
    assert "it wins" not in said


def test_all_of_it_runs_for_a_small_model_where_nothing_compiles(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known_as(monkeypatch, CONFIG)
    plan = Plan("fp32", TEXTS, (3,), (2,), 16, 7, 3, 0.0, "no-such-compiler")
    result = run_model(NAME, plan, CPU)
    assert {row.way for row in result.device} == {"open_clip", "plain"}
    assert result.worst_cosine is None
    assert [end.decoder for end in result.end_to_end] == ["pool", "torchvision's CPU decoder"]
    assert all(end.posts_a_second > 0 for end in result.end_to_end)
    assert "no-such-compiler" in capsys.readouterr().out
    assert tables(result, 1e9).count("| plain |") == 2


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ValueError, match="no-such-model"):
        architecture("no-such-model")
