"""Peak memory of decoding and encoding a stream of large pictures in threads, against what is configured.

    python -m benchmarks.decode_memory [--budget PIXELS] [--originals FOLDER]

Prints one JSON object: resident bytes before the stream, their peak after one round and after all of them,
and the bound that the configured budgets allow. Linux only: the peak is read from /proc.
"""

from __future__ import annotations

import argparse
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from model import checkpoint
from model.pictures.decode import BYTES_A_PIXEL, ImageLimits, decode_picture
from model.pictures.pixel_budget import PixelBudget
from model.serving.allocator import keep_freed_memory
from model.serving.encoder import Encoder

_BATCH = 16  # pictures encoded at once
_WIDTH, _HEIGHT = 3000, 2400
_FIXED = 48 << 20  # what the allocator keeps of small pieces for each thread's next ones


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--budget", type=int, default=16_000_000, help="pixels decoded at the same time")
    parser.add_argument("--rounds", type=int, default=4, help="how often the same pictures come")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--originals", type=Path, help="a folder of pictures that come too")
    options = parser.parse_args()
    keep_freed_memory()  # as a worker does
    print(json.dumps(measure(options.budget, options.rounds, options.threads, options.originals)))


def measure(budget: int, rounds: int, threads: int, originals: Path | None) -> dict[str, int]:
    """The figures, in bytes, by name."""
    files = _large() + ([path.read_bytes() for path in _largest(originals)] if originals else [])
    encoder = Encoder.of(checkpoint.load("tiny"))
    limits = ImageLimits(budget=PixelBudget(budget))
    blank = np.zeros((_BATCH, encoder.image_size, encoder.image_size, 3), np.uint8)
    encoder.encode_images(blank)  # the first pass loads and allocates what later ones reuse

    def prepare(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        picture = decode_picture(data, target=encoder.image_size, longer_side=384, limits=limits)
        picture.thumbnail(384)
        return picture.for_model(encoder.image_size)

    base, peaks = _resident("VmRSS"), []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds):
            for start in range(0, len(files), _BATCH):
                batch = list(pool.map(prepare, files[start : start + _BATCH]))
                encoder.encode_images(np.stack(batch))
            peaks.append(_resident("VmHWM"))
    # a picture that was let through is held on, in RGB, while it is resized
    after = threads * 4 * _WIDTH * _HEIGHT
    bound = base + budget * BYTES_A_PIXEL + after + _FIXED
    return {"base": base, "first_round": peaks[0], "peak": peaks[-1], "bound": bound}


def _large() -> list[bytes]:
    """One picture of noise and slopes in the formats whose decoders hold the most."""
    rows, columns = np.mgrid[0:_HEIGHT, 0:_WIDTH]
    slopes = ((rows + columns) // 16 % 256).astype(np.uint8)
    image = Image.fromarray(slopes)
    wide = Image.fromarray(slopes.astype(np.uint16) * 256)
    return [
        _file(image.convert("CMYK"), "JPEG", progressive=True),
        _file(image.convert("RGB"), "JPEG", progressive=True),
        _file(image.convert("RGB"), "JPEG"),
        _file(image.convert("RGBA"), "PNG", compress_level=1),
        _file(wide, "PNG", compress_level=1),
        _file(image, "GIF"),
        _file(image.convert("RGBA"), "WEBP", lossless=True, quality=0, method=0),
    ] * 4


def _file(image: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def _largest(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: path.stat().st_size)[-8:]


def _resident(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split(f"{name}:")[1].split()[0]) * 1024


if __name__ == "__main__":
    main()
