"""What `gpu_encoding` measured, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.gpu_decode import DeviceDecoding
from benchmarks.gpu_device import DeviceRow

AIMED_SHARE = 0.45  # of the matrix products' peak, by the device alone
AIMED_END_TO_END = 0.8  # of the lower bound


@dataclass(frozen=True, slots=True)
class PoolRate:
    """Pictures a second that so many threads decode and resize."""

    threads: int
    pictures_a_second: float


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """JPEG bytes and two texts to vectors.

    Args:
        decoder: what decoded the pictures.
    """

    decoder: str
    batch: int
    posts_a_second: float


@dataclass(frozen=True, slots=True)
class ModelRun:
    """One model's numbers.

    Args:
        flops_a_post: that the serving towers carry out.
        compile_s: compiling and, on CUDA, capturing all buckets; 0 where it was left out.
        worst_cosine: of the compiled towers' vectors to the plain ones'; None where it was left out.
    """

    model: str
    precision: str
    flops_a_post: int
    compile_s: float
    worst_cosine: float | None
    device: list[DeviceRow]
    pool: list[PoolRate]
    device_decoding: DeviceDecoding
    end_to_end: list[EndToEnd]

    def best_on_device(self) -> DeviceRow:
        """The fastest way from inputs that lie on the device."""
        return max(self.device, key=lambda row: row.posts_a_second)

    def share_of(self, peak: float, row: DeviceRow) -> float:
        """Part of the peak that a way reaches, by the operations that the towers really carry out."""
        return row.posts_a_second * self.flops_a_post / peak

    def bound(self, run: EndToEnd) -> tuple[float, Literal["device", "decoding"]]:
        """Posts a second that decoding and device alone allow, and which of the two it is."""
        device = self.best_on_device().posts_a_second
        if run.decoder == self.device_decoding.decoder:
            decoding = self.device_decoding.pictures_a_second
        else:
            decoding = max(rate.pictures_a_second for rate in self.pool)
        return (device, "device") if device <= decoding else (decoding, "decoding")


def tables(run: ModelRun, peak: float) -> str:
    """The numbers as Markdown."""
    lines = [
        f"## {run.model}, {run.precision}: {run.flops_a_post / 1e9:.2f} GFLOPs a post",
        "",
        "| device only | pixels | batch | posts/s | of the peak | peak GiB |",
        "| --- | --- | --: | --: | --: | --: |",
    ]
    for row in run.device:
        memory = f"{row.peak_bytes / 2**30:.2f}" if row.peak_bytes is not None else "–"
        lines.append(
            f"| {row.way} | {row.layout} | {row.batch} | {row.posts_a_second:.1f} "
            f"| {run.share_of(peak, row):.1%} | {memory} |"
        )
    lines += ["", "| decoding and resizing | pictures/s |", "| --- | --: |"]
    lines += [f"| pool, {rate.threads} threads | {rate.pictures_a_second:.0f} |" for rate in run.pool]
    lines.append(f"| {run.device_decoding.decoder} | {run.device_decoding.pictures_a_second:.0f} |")
    lines += [
        "",
        "| end to end, pictures by | batch | posts/s | of the bound | which is |",
        "| --- | --: | --: | --: | --- |",
    ]
    for end in run.end_to_end:
        bound, which = run.bound(end)
        lines.append(
            f"| {end.decoder} | {end.batch} | {end.posts_a_second:.1f} "
            f"| {end.posts_a_second / bound:.0%} | {which}, {bound:.1f} |"
        )
    return "\n".join(lines)


def verdicts(run: ModelRun, peak: float) -> list[str]:
    """Say what the numbers come to, a line each."""
    best = run.best_on_device()
    lines = [
        f"{run.model}: device only {best.posts_a_second:.1f} posts/s ({best.way}, {best.layout}, batch "
        f"{best.batch}), {_against(run.share_of(peak, best), AIMED_SHARE)} of the measured peak",
        _compiling(run),
    ]
    for end in run.end_to_end:
        bound, which = run.bound(end)
        lines.append(
            f"{run.model}: end to end with {end.decoder} {end.posts_a_second:.1f} posts/s, "
            f"{_against(end.posts_a_second / bound, AIMED_END_TO_END)} of the {which} bound"
        )
    return [*lines, *_decoding(run)]


def _against(value: float, aim: float) -> str:
    return f"{value:.1%} (aim {aim:.0%}: {'reached' if value >= aim else 'missed'})"


def _compiling(run: ModelRun) -> str:
    plain = {row.batch: row.posts_a_second for row in run.device if row.way == "plain"}
    gains = [
        f"× {row.posts_a_second / plain[row.batch]:.2f} at {row.batch}"
        for row in run.device
        if row.way.startswith("compiled") and row.batch in plain
    ]
    if not gains or run.worst_cosine is None:
        return f"{run.model}: nothing was compiled"
    return (
        f"{run.model}: compiled against plain {', '.join(gains)}; {run.compile_s:.0f} s to start; "
        f"worst cosine to the plain vectors {run.worst_cosine:.6f}"
    )


def _decoding(run: ModelRun) -> list[str]:
    ours, pool = run.device_decoding, max(run.pool, key=lambda rate: rate.pictures_a_second)
    ratio = ours.pictures_a_second / pool.pictures_a_second
    winner = "its pixels are wrong" if ours.wrong_canaries else "it wins" if ratio > 1 else "the pool wins"
    lines = [
        f"{run.model}: {ours.decoder} decodes {ratio:.2f} × what {pool.threads} threads do "
        f"({winner} before the device is shared); "
        f"{ours.wrong_canaries} wrong canaries in {ours.batches} batches, "
        f"pixels {ours.levels_off:.2f} of 255 off the pool's"
    ]
    by_device = [end for end in run.end_to_end if end.decoder == ours.decoder]
    by_pool = [end for end in run.end_to_end if end.decoder != ours.decoder]
    if by_device and by_pool and not ours.wrong_canaries:
        best, other = (max(end.posts_a_second for end in ends) for ends in (by_device, by_pool))
        lines.append(
            f"{run.model}: end to end {ours.decoder} makes × {best / other:.2f} of the pool's posts/s"
        )
    return lines
