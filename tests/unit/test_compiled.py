"""The towers compiled for buckets: the same vectors, a bounded number of shapes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from model.backbone import build_backbone
from model.config import ArchitectureConfig, ExpertConfig, TextConfig, VisionConfig
from model.serving.compiled import CompiledTowers, CompileError, row_buckets, text_buckets
from model.serving.towers import ServingTowers

ARCHITECTURE = ArchitectureConfig(
    embed_dim=32,
    vision=VisionConfig(image_size=32, patch_size=16, width=64, layers=2),
    text=TextConfig(width=64, heads=1, layers=2, vocab_size=64, context_length=20),
    experts=ExpertConfig(1, 1, 1),
)
ROWS = 12


@pytest.fixture(scope="module")
def plain() -> ServingTowers:
    torch.manual_seed(0)
    return ServingTowers(build_backbone(ARCHITECTURE).eval())


def compiled(towers: ServingTowers, backend: str = "eager") -> CompiledTowers:
    return CompiledTowers(towers, image=torch.zeros(3, 32, 32), context=20, rows=ROWS, backend=backend)


@pytest.fixture(scope="module")
def bucketed(plain: ServingTowers) -> CompiledTowers:
    return compiled(plain)


def texts(rows: int, length: int) -> Tensor:
    """Ids that end anywhere, padded with 0."""
    ids = torch.randint(1, 62, (rows, length))
    end = torch.randint(1, length, (rows, 1))
    place = torch.arange(length)
    return ids.masked_fill(place > end, 0).masked_fill(place == end, 63)


@pytest.mark.parametrize("rows", [1, 7, 8, 9, ROWS])
def test_pictures_padded_to_a_bucket_have_the_vectors_of_the_plain_tower(
    plain: ServingTowers, bucketed: CompiledTowers, rows: int
) -> None:
    image = torch.randn(rows, 3, 32, 32)
    with torch.inference_mode():
        expected = plain.image_features(image)
    torch.testing.assert_close(bucketed.image_features(image), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("rows", "length"), [(1, 2), (3, 8), (8, 9), (ROWS, 17), (5, 20)])
def test_texts_padded_to_a_bucket_have_the_vectors_of_the_plain_tower(
    plain: ServingTowers, bucketed: CompiledTowers, rows: int, length: int
) -> None:
    ids = texts(rows, length)
    with torch.inference_mode():
        expected = plain.text_features(ids)
    torch.testing.assert_close(bucketed.text_features(ids), expected, atol=1e-6, rtol=1e-5)


def test_no_batch_of_any_size_is_compiled_after_the_start(bucketed: CompiledTowers) -> None:
    with torch.compiler.set_stance("fail_on_recompile"):
        for rows in range(1, ROWS + 1):
            bucketed.image_features(torch.randn(rows, 3, 32, 32))
            for length in range(2, 21):
                bucketed.text_features(texts(rows, length))


def test_a_batch_above_every_bucket_still_has_its_vectors(
    plain: ServingTowers, bucketed: CompiledTowers
) -> None:
    image = torch.randn(ROWS + 1, 3, 32, 32)
    with torch.inference_mode():
        expected = plain.image_features(image)
    with torch.compiler.set_stance("fail_on_recompile"):
        torch.testing.assert_close(bucketed.image_features(image), expected)


def test_an_empty_batch_has_no_vectors(bucketed: CompiledTowers) -> None:
    assert bucketed.image_features(torch.zeros(0, 3, 32, 32)).shape == (0, 32)
    assert bucketed.text_features(torch.zeros(0, 0, dtype=torch.long)).shape == (0, 32)


def test_a_result_is_not_overwritten_by_the_next_call(bucketed: CompiledTowers) -> None:
    first = bucketed.image_features(torch.randn(3, 3, 32, 32))
    kept = first.clone()
    bucketed.image_features(torch.randn(3, 3, 32, 32))
    assert torch.equal(first, kept)


def test_threads_get_their_own_vectors(plain: ServingTowers, bucketed: CompiledTowers) -> None:
    batches = [texts(rows, 6 + rows) for rows in range(1, 7)]
    with torch.inference_mode():
        expected = [plain.text_features(ids) for ids in batches]
    wrong: list[int] = []

    def encode(number: int) -> None:
        for _ in range(10):
            if not torch.allclose(bucketed.text_features(batches[number]), expected[number], atol=1e-5):
                wrong.append(number)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(encode, range(6)))
    assert wrong == []


def test_pictures_may_be_prepared_inside(plain: ServingTowers) -> None:
    def prepare(pixels: Tensor) -> Tensor:
        return pixels.permute(0, 3, 1, 2).float() / 255

    pixels = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = plain.image_features(prepare(pixels))
    towers = CompiledTowers(plain, image=pixels[0], context=8, rows=8, prepare=prepare, backend="eager")
    torch.testing.assert_close(towers.image_features(pixels), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_the_compiler_of_torch_gives_the_same_vectors(plain: ServingTowers) -> None:
    towers, image, ids = compiled(plain, "inductor"), torch.randn(5, 3, 32, 32), texts(5, 11)
    with torch.inference_mode():
        torch.testing.assert_close(
            towers.image_features(image), plain.image_features(image), atol=1e-5, rtol=1e-4
        )
        torch.testing.assert_close(towers.text_features(ids), plain.text_features(ids), atol=1e-5, rtol=1e-4)


def test_every_bucket_has_its_own_form_where_sizes_are_fixed(plain: ServingTowers) -> None:
    towers = CompiledTowers(
        plain, image=torch.zeros(3, 32, 32), context=12, rows=3, backend="eager", dynamic=False
    )
    with torch.compiler.set_stance("fail_on_recompile"):
        for length in range(2, 13):
            towers.text_features(texts(2, length))


def test_a_backend_that_does_not_work_is_named_in_one_line(plain: ServingTowers) -> None:
    with pytest.raises(CompileError) as error:
        compiled(plain, "no-such-backend")
    assert "\n" not in str(error.value)
    assert "no-such-backend" in str(error.value)


def test_rows_are_padded_to_powers_of_two() -> None:
    assert row_buckets(64) == (8, 16, 32, 64)
    assert row_buckets(100) == (8, 16, 32, 64, 100)
    assert row_buckets(3) == (3,)


def test_every_batch_within_the_token_budget_has_a_bucket() -> None:
    rows, context, tokens = 64, 77, 1024
    buckets = text_buckets(rows, context, tokens)
    for length in range(1, context + 1):
        most = min(rows, tokens // length)
        assert any(most <= room and length <= long for room, long in buckets)


def test_the_token_budget_leaves_out_buckets() -> None:
    assert len(text_buckets(64, 77, 1024)) < len(text_buckets(64, 77)) == 40


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU that PyTorch can use")
def test_graphs_replayed_by_threads_on_their_own_streams_give_the_plain_vectors() -> None:
    torch.manual_seed(0)
    towers = ServingTowers(build_backbone(ARCHITECTURE).eval().cuda())
    replayed = CompiledTowers(
        towers, image=torch.zeros(3, 32, 32, device="cuda"), context=20, rows=ROWS, backend="eager"
    )
    batches = [texts(rows, 6 + rows) for rows in range(1, 7)]
    with torch.inference_mode():
        expected = [towers.text_features(ids.cuda()).cpu() for ids in batches]
    wrong: list[int] = []

    def encode(number: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
            for _ in range(50):
                found = replayed.text_features(batches[number].cuda()).cpu()
                if not torch.allclose(found, expected[number], atol=1e-4):
                    wrong.append(number)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(encode, range(6)))
    assert wrong == []
