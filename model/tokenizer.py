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
import unicodedata
from array import array
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import ftfy
import numpy as np
from ftfy.badness import is_bad
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

_BYTE_TOKENS = 512  # 256 bytes, and the same at the end of a word
_SPECIAL_TOKENS = ("<start_of_text>", "<end_of_text>")
_FULL_VOCABULARY = 49408
# Unlike open_clip's, a literal "<end_of_text>" in a text is plain text: else a post could cut itself short.
_WORDS = r"'[sſ]|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_ID_TYPE: Final = "H"
_ID_BYTES = 2  # ids are packed in memory: CLIP's 49,408 fit two bytes
# Characters that ftfy never takes for mojibake, whatever stands beside them: printable ASCII without the
# ampersand, quotes, dashes, Arabic, dingbats, Chinese, Japanese, Korean, emoji.
_INNOCENT = re.compile(
    "[ -%'-~\t\n\r\f\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u200d\ufe0f"
    "\u0600-\u06ff\u2600-\u27bf\u3001-\u9fff\uac00-\ud7a3\U0001f000-\U0001faff]*"
)
# What ftfy or `html.unescape` may change wherever it stands: entities, control characters, line separators,
# ligatures, full and half width, surrogates. And the one mark that CLIP's case-folding pattern skips.
_CHANGED = re.compile(
    "&[#A-Za-z]|[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\u0132\u0133\u0149\u01c4-\u01cc\u01f1-\u01f3\u0345"
    "\u2028\u2029\u206a-\u206f\u3000\ud800-\udfff\ufb00-\ufb06\ufeff\uff01-\uffef\ufff9-\ufffc]"
)
_STRAIGHT_QUOTES = str.maketrans("\u02bc\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f", "'" * 5 + '"' * 4)
_COMMON_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|#39);")
_ASCII_WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^a-z0-9]+")  # `_WORDS` in ASCII
_CACHED_WORDS = 1 << 17
_LONGEST_CACHED = 32  # characters; what is longer is a link or a sentence without spaces, and seldom repeats
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
        self._words = _Words(_build_bpe(vocab_size))
        # a text is cut into windows by asking hundreds of times with one explanation
        self._count = lru_cache(maxsize=16)(lambda text: len(self._ids(text)))
        self._start, self._end = _pack([self.start_id]), _pack([self.end_id])

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text between SOT and EOT, cut to the context, not padded."""
        room = self.context_length - 2
        return [[self.start_id, *self._ids(text)[:room], self.end_id] for text in texts]

    def encode_joined(self, texts: Sequence[str], explanations: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text followed by its explanation, in one context.

        Where the two do not fit together, each keeps at least half of the room: what is cut is the end of the
        explanation first, then that of the text.
        """
        room = self.context_length - 2
        rows = []
        for text, explanation in zip(map(self._ids, texts), map(self._ids, explanations), strict=True):
            kept = text[: self._room_beside(len(explanation))]
            rows.append([self.start_id, *kept, *explanation[: room - len(kept)], self.end_id])
        return rows

    def _room_beside(self, explanation_tokens: int) -> int:
        """Tokens that a text has when an explanation follows it."""
        room = self.context_length - 2
        return max(room - explanation_tokens, (room + 1) // 2)

    def _packed(self, text: str, most: int) -> bytes:
        """At most so many ids of a text, two bytes each."""
        words = _cleaned(text).split()[:most]  # a word has at least one
        return b"".join(map(self._words.__getitem__, words))[: _ID_BYTES * most]

    def _ids(self, text: str) -> list[int]:
        """The ids of a text, up to the first that no longer fits: whoever counts them sees that it is cut."""
        return memoryview(self._packed(text, self.context_length - 1)).cast(_ID_TYPE).tolist()

    def __call__(self, texts: Sequence[str], *, cut: bool = False) -> NDArray[np.int64]:
        """Tokenise and pad with 0.

        Args:
            cut: pad to the longest of these texts only, not to the context.

        Returns:
            [B, context_length], or [B, longest] with `cut`.
        """
        room = self.context_length - 2
        rows = [self._start + self._packed(text, room) + self._end for text in texts]
        lengths = np.array([len(row) // _ID_BYTES for row in rows], dtype=np.int64)
        longest = int(lengths.max(initial=2)) if cut else self.context_length
        ids = np.zeros((len(rows), longest), dtype=np.int64)
        ids[np.arange(longest) < lengths[:, None]] = np.frombuffer(b"".join(rows), _ID_TYPE)
        return ids

    def fits(self, text: str, explanation: str = "") -> bool:
        """Whether the whole text fits the context without being cut, also with an explanation behind it."""
        return len(self._ids(text)) <= self._room_beside(self._count(explanation))


class _Words(dict[str, bytes]):
    """The packed ids of a run of characters without white space, asked from the encoder once.

    No token of CLIP's spans white space, so a text's ids are its words' ids in a row. Two generations bound
    the memory: when the young one is full it becomes the old one, and what is still asked for moves back.
    Thread-safe: threads that learn the same word at once write the same ids.
    """

    def __init__(self, bpe: Tokenizer) -> None:
        super().__init__()
        self._bpe, self._merge = bpe, bpe.model.tokenize
        self._old: dict[str, bytes] = {}

    def __missing__(self, run: str) -> bytes:
        ids = self._old.get(run) or self._learn(run)
        if len(run) <= _LONGEST_CACHED:
            if len(self) >= _CACHED_WORDS:
                self._old = dict(self)
                self.clear()
            self[run] = ids
        return ids

    def _learn(self, run: str) -> bytes:
        if not run.isascii():
            return _pack(self._bpe.encode(run, add_special_tokens=False).ids)
        words = _ASCII_WORDS.findall(run)
        if len(words) > 1:  # most runs are a known word and a comma
            return b"".join(map(self.__getitem__, words))
        return _pack([token.id for token in self._merge(run)])  # ASCII is its own stand-in, byte by byte


def _pack(ids: Sequence[int]) -> bytes:
    return array(_ID_TYPE, ids).tobytes()


def clean(text: str) -> str:
    """Repair mojibake, undo HTML entities (twice), collapse whitespace, lower the case."""
    return " ".join(_cleaned(text).split())


def _cleaned(text: str) -> str:
    """`clean`, but for the whitespace."""
    text = text[:_MAX_CHARACTERS]
    if _INNOCENT.fullmatch(text) and text.isascii():
        return text.lower()
    return _repaired(text).lower()


def _repaired(text: str) -> str:
    """What ftfy and two `html.unescape` make of a text; ftfy itself costs ten times the rest."""
    plain = _COMMON_ENTITY.sub(lambda entity: html.unescape(entity[0]), text) if "&" in text else text
    if (_INNOCENT.fullmatch(plain) or _is_sound(plain)) and unicodedata.is_normalized("NFC", plain):
        return plain.translate(_STRAIGHT_QUOTES)
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return text.replace("\u0345", " ")  # CLIP's case-folding pattern skips this one mark: it ends a word


def _is_sound(text: str) -> bool:
    """Whether ftfy, which looks at each line by itself, would only straighten quotes and compose accents."""
    return not (_CHANGED.search(text) or any(map(is_bad, text.split("\n"))))


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
    bpe = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>"))
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
