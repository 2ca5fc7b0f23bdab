"""What the matching head costs beside encoding: `python -m benchmarks.rerank_cost`.

Random weights of ViT-B/32's size (D = 512, 4/4/4 experts), on the CPU: how long it takes does not depend on
what the weights say. All of a round is timed in turn, and the medians over the rounds are compared, so that a
busy machine slows all of them alike. Where a query is re-ranked against its candidates, their scalars and
vectors are at hand; fetching the vectors is timed apart, from an embedded store, and so is the other
direction, which needs the texts of all candidates.

The naive re-rank is the published head on the full tokens of every pair (`worker/bench/published.py`),
with every row through every expert. Beside it stands our own `EntityClip.itm_logits` on the same tokens,
which computes the one row that is used.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

import msgspec
import torch
from torch import Tensor

from model import backbone as towers
from model.config import ArchitectureConfig, ExpertConfig
from model.entityclip import EntityClip
from model.matching_head import MatchingHead
from model.rerank import PairScorer
from model.serving.encoder import Encoder
from model.sources.published import load_published
from worker.bench.published import PublishedEntityClip, Tokens
from worker.index import Point, VectorIndex
from worker.store.client import open_store

CANDIDATES = 50
_SELDOM = 20  # rounds between two of the other direction
_WORD = "people "  # one token


@dataclass(frozen=True, slots=True)
class Cost:
    """Medians of one run, milliseconds.

    Args:
        encode: the query's text and explanation, each cut to its length.
        rerank: a text against its candidates, from the query's tokens and the candidates' scalars.
        folded: `EntityClip.itm_logits` on the full tokens of every pair.
        naive: the published head on them.
        fetch: the candidates' vectors from the store.
        image_to_text: a picture against as many texts, none of them kept from before.
        image_to_text_kept: the same with all of them kept.
    """

    encode: float
    rerank: float
    folded: float
    naive: float
    fetch: float
    image_to_text: float
    image_to_text_kept: float

    @property
    def of_encoding(self) -> float:
        """Share of encoding the query that the re-rank costs."""
        return self.rerank / self.encode

    @property
    def of_naive(self) -> float:
        """Share of the naive re-rank that ours costs."""
        return self.rerank / self.naive


class Bench:
    """One model with a query and its candidates.

    Args:
        tokens: of the query's text and of its explanation, SOT and EOT included.
    """

    def __init__(
        self, architecture: ArchitectureConfig, tokens: tuple[int, int], candidates: int = CANDIDATES
    ) -> None:
        torch.manual_seed(0)
        self.model, self.published = _one_model_both_ways(architecture)
        self.encoder = Encoder(self.model)
        self.head, self.scorer = MatchingHead(self.model, self.encoder), PairScorer(self.model)
        self.candidates = candidates
        texts = [_WORD * (length - 2) for length in tokens]
        self.ids = [self.encoder.token_tensor(self.encoder.tokenizer.encode([text])) for text in texts]
        self.query = (texts[0], texts[1])
        size = architecture.vision.image_size
        patches = (size // architecture.vision.patch_size) ** 2 + 1
        self.image_tokens = torch.randn(candidates, patches, architecture.embed_dim)
        self.images = self.scorer.image_parts(self.image_tokens)
        self.scalars = torch.cat(
            [self.images.row.norm(dim=1, keepdim=True), self.images.evidence, self.images.gate], dim=1
        ).numpy()
        self.vectors = torch.nn.functional.normalize(self.images.row, dim=1).numpy()

    @torch.inference_mode()
    def encode(self) -> list[Tensor]:
        """The query's text and explanation to tokens."""
        return [towers.text_tokens(self.model.backbone, ids) for ids in self.ids]

    @torch.inference_mode()
    def rerank(self, tokens: Sequence[Tensor]) -> Tensor:
        """From the query's tokens and the candidates' parts. [1, candidates]."""
        parts = self.scorer.text_parts(*tokens, *map(towers.eot_index, self.ids))
        return self.scorer.logits(self.images, parts, torch.arange(self.candidates).unsqueeze(0))

    @torch.inference_mode()
    def folded(self, tokens: Sequence[Tensor]) -> Tensor:
        """From the full tokens of every pair, the one row of each. [1, candidates]."""
        text, explanation = (each.expand(self.candidates, -1, -1) for each in tokens)
        eot = [towers.eot_index(ids).expand(self.candidates) for ids in self.ids]
        return _matches(self.model.itm_logits(self.image_tokens, text, explanation, *eot))

    @torch.inference_mode()
    def naive(self, tokens: Sequence[Tensor]) -> Tensor:
        """From the full tokens of every pair, all rows of them. [1, candidates]."""
        text, explanation = (each.expand(self.candidates, -1, -1) for each in tokens)
        eot = towers.eot_index(self.ids[0]).expand(self.candidates)
        logits, _ = self.published.matching(Tokens(self.image_tokens, text, explanation, eot))
        return _matches(logits)

    def image_to_text(self, texts: Sequence[tuple[str, str]]) -> None:
        """One picture against texts."""
        pairs = [(place, 0) for place in range(len(texts))]
        self.head.logits(texts, self.vectors[:1], self.scalars[:1], pairs)

    def texts(self, round_: int) -> list[tuple[str, str]]:
        """As many texts as candidates, of the query's length, others in each round."""
        return [
            (" ".join([f"{round_ * self.candidates + number:06d}"[:6], own[16:]]), beside)
            for number in range(self.candidates)
            for own, beside in [self.query]
        ]


def measure(bench: Bench, rounds: int, store: Path) -> Cost:
    """Medians over the rounds, of which the first does not count."""
    taken: Mapping[str, list[float]] = defaultdict(list)
    with open_store(str(store)) as opened:
        index = VectorIndex(opened, "bench", "rerank", bench.vectors.shape[1])
        index.open_or_create()
        ids = [str(UUID(int=number + 1)) for number in range(bench.candidates)]
        payload = {"post_id": "p", "kind": "image"}
        rows = zip(ids, bench.vectors, bench.scalars, strict=True)
        index.upsert([Point(id_, {"image": row}, payload | {"itm": own.tolist()}) for id_, row, own in rows])
        for round_ in range(rounds + 1):
            tokens = bench.encode()
            texts = bench.texts(round_)
            steps: dict[str, Callable[[], object]] = {
                "encode": bench.encode,
                "rerank": partial(bench.rerank, tokens),
                "folded": partial(bench.folded, tokens),
                "naive": partial(bench.naive, tokens),
                "fetch": partial(index.get, ids, with_vectors=True),
            }
            if round_ % _SELDOM == 0:  # encoding fifty texts takes seconds
                steps["image_to_text"] = partial(bench.image_to_text, texts)
                steps["image_to_text_kept"] = steps["image_to_text"]
            for name, step in steps.items():
                began = time.perf_counter()
                step()
                taken[name].append(time.perf_counter() - began)
    return Cost(**{name: 1000 * statistics.median(seconds[1:] or seconds) for name, seconds in taken.items()})


def difference(bench: Bench) -> float:
    """Largest difference of a logit between our re-rank and those on full tokens."""
    tokens = bench.encode()
    ours = bench.rerank(tokens)
    return max(float((ours - other(tokens)).abs().max()) for other in (bench.folded, bench.naive))


def _one_model_both_ways(architecture: ArchitectureConfig) -> tuple[EntityClip, PublishedEntityClip]:
    """One random model; a query's tokens are not padded here, so attending to padding changes nothing."""
    experts = architecture.experts
    padded = msgspec.structs.replace(experts, attend_padding=True)
    published = PublishedEntityClip(msgspec.structs.replace(architecture, experts=padded)).eval()
    model = EntityClip(architecture)
    digits = f"{experts.image}{experts.explanation}{experts.text}"
    model.load_state_dict(load_published(published.published_state(), digits).state_dict())
    return model.eval(), published


def _matches(logits: Tensor) -> Tensor:
    """[N, 2] -> [1, N], the logit of a match."""
    return (logits[:, 0] - logits[:, 1]).unsqueeze(0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the costs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print(f"D = 512, {CANDIDATES} candidates, {options.threads} threads, {options.rounds} rounds, medians")
    for tokens in ((77, 77), (40, 60)):
        bench = Bench(ArchitectureConfig(experts=ExpertConfig(attend_padding=False)), tokens)
        with tempfile.TemporaryDirectory() as folder:
            cost = measure(bench, options.rounds, Path(folder) / "store")
        print(f"\ntext of {tokens[0]} tokens, explanation of {tokens[1]}")
        print(f"  encode both                       {cost.encode:8.2f} ms")
        print(
            f"  re-rank, scalars at hand          {cost.rerank:8.2f} ms  {cost.of_encoding:.1%} of encoding"
        )
        print(f"  naive, all rows of full tokens    {cost.naive:8.2f} ms  ours is {cost.of_naive:.1%} of it")
        print(f"  itm_logits on full tokens         {cost.folded:8.2f} ms")
        print(f"  fetch the candidates' vectors     {cost.fetch:8.2f} ms")
        print(f"  image to text, texts not kept     {cost.image_to_text:8.2f} ms")
        print(f"  image to text, all kept           {cost.image_to_text_kept:8.2f} ms")
        print(f"  largest difference of a logit     {difference(bench):.1e}")


if __name__ == "__main__":
    main()
