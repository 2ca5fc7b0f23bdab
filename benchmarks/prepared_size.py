"""What the bound of `entityclip prepare` costs and keeps.

    python -m benchmarks.prepared_size FOLDER

For every picture of a folder and a few bounds: bytes a picture, and the peak signal-to-noise ratio between
what a 224 px model sees of the original and of the bounded picture.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from model.data.pictures import bound_picture
from model.pictures.decode import ImageError, decode, resize_for_model

BOUNDS = ((384, 90), (384, 75), (320, 85), (256, 85))
SIZE = 224


def main() -> None:
    """Print one row a bound."""
    files = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir()) if path.is_file()]
    print(f"{len(files)} files, {sum(map(len, files)) / len(files) / 1000:.0f} KB each")
    print("max-side  quality  PSNR dB  KB a picture  pictures")
    for side, quality in BOUNDS:
        rows = [row for data in files if (row := measure(data, side, quality))]
        noise, size = np.mean(np.array(rows), axis=0)
        print(f"{side:8}  {quality:7}  {noise:7.1f}  {size / 1000:12.0f}  {len(rows):8}")


def measure(data: bytes, side: int, quality: int) -> tuple[float, float] | None:
    """PSNR in dB and bytes of one bounded picture; None for a file that is refused."""
    try:
        bounded = bound_picture(data, side, quality).jpeg
        original, kept = (
            resize_for_model(decode(one, target=SIZE), SIZE).astype(np.float64) for one in (data, bounded)
        )
    except ImageError:
        return None
    error = max(float(np.mean((original - kept) ** 2)), 1e-3)  # the same picture would be infinitely good
    return 10 * np.log10(255**2 / error), len(bounded)


if __name__ == "__main__":
    main()
