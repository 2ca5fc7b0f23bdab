"""CLIP's byte-pair tokenizer, on the Rust `tokenizers` library.

Same ids as open_clip's own: its cleaning (ftfy, HTML entities, whitespace, lower case), its word pattern
and its merges. A vocabulary smaller than CLIP's 49,408 keeps the first merges only, which is again a
valid byte-pair encoding of any text.
"""

from __future__ import annotations

import gzip
import html
import importlib.util
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import ftfy
import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

_BYTE_TOKENS = 512  # 256 bytes, and the same at the end of a word
_SPECIAL_TOKENS = ("<start_of_text>", "<end_of_text>")
_FULL_VOCABULARY = 49408
# Unlike open_clip's, a literal "<end_of_text>" in a text is plain text: else a post could cut itself short.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_PLAIN = re.compile(r"[ -%'-~\s]*", re.ASCII)  # printable ASCII without the ampersand
# What CLIP's 75 free tokens could at most have been written with, by far: longer texts are cut before the
# costly cleaning. A token covers 1 to about 15 characters.
_MAX_CHARACTERS = 20_000


class ClipTokenizer:
    """Texts to token ids. Thread-safe.

    Args:
        vocab_size: the model's; SOT and EOT are its two largest ids.
        context_length: SOT and EOT included; longer texts are cut and still end in EOT.
    """

    def __init__(self, vocab_size: int = _FULL_VOCABULARY, context_length: int = 77) -> None:
        self.vocab_size = vocab_size
        self.context_length = context_length
        self.start_id = vocab_size - 2
        self.end_id = vocab_size - 1
        self._bpe = _build_bpe(vocab_size)
        # a text is cut into windows by asking hundreds of times with one explanation
        self._count = lru_cache(maxsize=16)(lambda text: len(self._ids([text])[0]))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text between SOT and EOT, cut to the context, not padded."""
        room = self.context_length - 2
        return [[self.start_id, *ids[:room], self.end_id] for ids in self._ids(texts)]

    def encode_joined(self, texts: Sequence[str], explanations: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text followed by its explanation, in one context.

        Where the two do not fit together, each keeps at least half of the room: what is cut is the end of the
        explanation first, then that of the text.
        """
        room = self.context_length - 2
        rows = []
        for text, explanation in zip(self._ids(texts), self._ids(explanations), strict=True):
            kept = text[: self._room_beside(len(explanation))]
            rows.append([self.start_id, *kept, *explanation[: room - len(kept)], self.end_id])
        return rows

    def _room_beside(self, explanation_tokens: int) -> int:
        """Tokens that a text has when an explanation follows it."""
        room = self.context_length - 2
        return max(room - explanation_tokens, (room + 1) // 2)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        cleaned = [clean(text) for text in texts]
        return [encoding.ids for encoding in self._bpe.encode_batch_fast(cleaned, add_special_tokens=False)]

    def __call__(self, texts: Sequence[str], *, cut: bool = False) -> NDArray[np.int64]:
        """Tokenise and pad with 0.

        Args:
            cut: pad to the longest of these texts only, not to the context.

        Returns:
            [B, context_length], or [B, longest] with `cut`.
        """
        rows = self.encode(texts)
        length = max(map(len, rows), default=2) if cut else self.context_length
        ids = np.zeros((len(rows), length), dtype=np.int64)
        for row, tokens in zip(ids, rows, strict=True):
            row[: len(tokens)] = tokens
        return ids

    def fits(self, text: str, explanation: str = "") -> bool:
        """Whether the whole text fits the context without being cut, also with an explanation behind it."""
        (ids,) = self._ids([text])
        return len(ids) <= self._room_beside(self._count(explanation))


def clean(text: str) -> str:
    """Repair mojibake, undo HTML entities (twice), collapse whitespace, lower the case."""
    text = text[:_MAX_CHARACTERS]
    if not _PLAIN.fullmatch(text):  # most texts are plain, and ftfy costs ten times the rest
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
        text = text.replace("\u0345", "")  # CLIP's case-folding pattern skips this one mark
    return " ".join(text.split()).lower()


def _merges_path() -> Path:
    """Where open_clip keeps CLIP's merges; found without importing it (it would import torch)."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("open_clip_torch is not installed")
    return Path(spec.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"


@lru_cache(maxsize=4)
def _build_bpe(vocab_size: int) -> Tokenizer:
    count = vocab_size - _BYTE_TOKENS - len(_SPECIAL_TOKENS)
    if not 0 <= count <= _FULL_VOCABULARY - _BYTE_TOKENS - len(_SPECIAL_TOKENS):
        raise ValueError(f"a vocabulary of {vocab_size} is outside 514 to {_FULL_VOCABULARY}")
    lines = gzip.decompress(_merges_path().read_bytes()).decode("utf-8").split("\n")
    merges = [_pair(line) for line in lines[1 : 1 + count]]  # the first line is a header
    characters = _byte_characters()
    tokens = [*characters, *(c + "</w>" for c in characters), *(a + b for a, b in merges), *_SPECIAL_TOKENS]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    bpe = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>", cache_capacity=100_000)
    )
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return bpe


def _pair(line: str) -> tuple[str, str]:
    first, second = line.split()
    return first, second


def _byte_characters() -> list[str]:
    """The printable stand-in of every byte, in CLIP's order: printable bytes first, then the others."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]
