"""Decoding JPEGs to the model's pixels: by a pool of threads, and on the device by nvJPEG.

On the CPU torchvision's own decoder takes nvJPEG's place, so that the same lines run.

torchvision decodes on streams of its own, and has been seen to give memory of decoded pictures to the next
batch while kernels still read it (pytorch/vision pull request 9606): the vectors are then wrong and nothing
says so. So the streams are synchronised before the pixels are read and before they are given back, and a
known picture stands in every batch: its pixels must come out the same each time.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.io import ImageReadMode, decode_jpeg

from model.pictures.decode import decode_picture

_CANARY_LEVELS = 1  # of 255: decoders are deterministic, rounding of the resize is not always
_RESIZED_TOGETHER = 64  # in float32, so many of 600×400 take 0.2 GiB


def draw_jpegs(count: int, size: tuple[int, int] = (600, 400), seed: int = 0) -> list[bytes]:
    """Draw pictures as busy as photographs: soft colours, edges and grain; about 50 kB each.

    Args:
        size: width and height, pixels.
    """
    rng = np.random.default_rng(seed)
    return [_jpeg(rng, size) for _ in range(count)]


def _jpeg(rng: np.random.Generator, size: tuple[int, int]) -> bytes:
    image = Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    for _ in range(40):
        left, top = rng.integers(0, size[0]), rng.integers(0, size[1])
        colour = tuple(map(int, rng.integers(0, 256, 3)))
        image.paste(
            colour, (int(left), int(top), int(left + rng.integers(5, 90)), int(top + rng.integers(5, 90)))
        )
    pixels = np.asarray(image, dtype=np.float32) + rng.normal(0, 6, (size[1], size[0], 1)).astype(np.float32)
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def model_pixels(data: bytes, side: int) -> NDArray[np.uint8]:
    """One picture as the worker decodes it. Returns [side, side, 3] uint8."""
    return decode_picture(data, target=side).for_model(side)


def pool_rate(files: Sequence[bytes], side: int, threads: int, *, for_s: float) -> float:
    """Pictures a second that so many threads decode and resize."""
    with ThreadPoolExecutor(threads) as pool:
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < for_s or not done:
            done += sum(1 for _ in pool.map(lambda data: model_pixels(data, side), files))
        return done / (time.perf_counter() - started)


class DeviceDecoder:
    """Decodes and resizes on one device. One thread at a time may call it.

    Args:
        side: of the square that comes out, pixels.
        device: a CUDA device, else torchvision's CPU decoder works.
    """

    def __init__(self, side: int, device: torch.device) -> None:
        self._side, self._device = side, device

    @staticmethod
    def name(device: torch.device) -> str:
        """What decodes there."""
        return "nvJPEG" if device.type == "cuda" else "torchvision's CPU decoder"

    def __call__(self, files: Sequence[bytes]) -> Tensor:
        """Decode colour JPEGs. Returns [B, side, side, 3] uint8 on the device; waits until they are there."""
        encoded = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # torchvision moves its decoders to TorchCodec
            decoded = decode_jpeg(encoded, ImageReadMode.RGB, self._device)
        self._wait()
        pixels = torch.empty(len(files), self._side, self._side, 3, dtype=torch.uint8, device=self._device)
        for places in _alike([picture.shape for picture in decoded]):
            index = torch.tensor(places, device=self._device)
            pixels[index] = self._resized(torch.stack([decoded[place] for place in places]))
        self._wait()  # the decoded pictures go back to their stream's memory now: nothing may still read them
        return pixels

    def _resized(self, pictures: Tensor) -> Tensor:
        """The central squares, bicubic with antialiasing. [B, 3, H, W] -> [B, side, side, 3] uint8."""
        height, width = pictures.shape[2:]
        shorter = min(height, width)
        size = self._side * height // shorter, self._side * width // shorter
        image = functional.interpolate(pictures.float(), size, mode="bicubic", antialias=True)
        top, left = (round((length - self._side) / 2) for length in size)
        square = image[:, :, top : top + self._side, left : left + self._side]
        return square.permute(0, 2, 3, 1).round().clamp(0, 255).to(torch.uint8)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _alike(shapes: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Places of pictures of one size each, at most `_RESIZED_TOGETHER`."""
    places: dict[tuple[int, ...], list[int]] = {}
    for place, shape in enumerate(shapes):
        places.setdefault(tuple(shape), []).append(place)
    return [
        same[start : start + _RESIZED_TOGETHER]
        for same in places.values()
        for start in range(0, len(same), _RESIZED_TOGETHER)
    ]


@dataclass(frozen=True, slots=True)
class DeviceDecoding:
    """What decoding on the device did.

    Args:
        batches: that were checked.
        wrong_canaries: batches whose known picture had other pixels than alone; more than 0 forbids it.
        levels_off: mean difference of the known picture to the worker's own decoding, of 255.
    """

    decoder: str
    pictures_a_second: float
    batches: int
    wrong_canaries: int
    levels_off: float


def device_decoding(
    files: Sequence[bytes], side: int, device: torch.device, *, batch: int, for_s: float
) -> DeviceDecoding:
    """Decode batches for a while, the first file in each at a place that moves."""
    decoder = DeviceDecoder(side, device)
    canary, others = files[0], files[1:]
    alone = decoder([canary])[0].cpu().numpy()
    batches, wrong, spent = 0, 0, 0.0
    while spent < for_s or not batches:
        place = batches % batch
        chunk = [others[(batches * batch + index) % len(others)] for index in range(batch)]
        chunk[place] = canary
        started = time.perf_counter()
        pixels = decoder(chunk)
        spent += time.perf_counter() - started
        wrong += not same_pixels(pixels[place].cpu().numpy(), alone)
        batches += 1
    worker = model_pixels(canary, side).astype(np.int16)
    off = float(np.abs(worker - alone.astype(np.int16)).mean())
    return DeviceDecoding(DeviceDecoder.name(device), batches * batch / spent, batches, wrong, off)


def same_pixels(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether two pictures differ nowhere by more than rounding."""
    return bool((np.abs(one.astype(np.int16) - other.astype(np.int16)) <= _CANARY_LEVELS).all())
