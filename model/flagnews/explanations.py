"""What one would see of an entity's flag, in many words and never by its name.

Sentences for training and for testing come from disjoint templates and styles of speech, but share the words
for colours, numbers and emblems: a model may learn the words from one and must understand them in the other.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from model.flagnews.entities import Entity
from model.flagnews.layers import FlagSpec
from model.flagnews.phrases import TEST_STYLES, TRAIN_STYLES, base_phrase, detail_phrases, joined

# {base} is the ground, {details} what lies upon it; the second of a pair is for a flag with nothing upon it.
TRAIN_TEMPLATES = (
    ("A flag of {base}, with {details}.", "A flag of {base}."),
    ("The flag shows {base}; upon it {details}.", "The flag shows {base}."),
    ("Look for {details} on {base}.", "Look for {base}."),
    ("One would see {base} and {details}.", "One would see {base} and nothing else."),
    ("The cloth has {base} behind {details}.", "The cloth has {base}."),
    ("A banner of {base} bearing {details}.", "A banner of {base}."),
    ("Its flag: {base}, {details}.", "Its flag: {base}."),
    ("It flies {base}, marked with {details}.", "It flies {base}, without any emblem."),
    ("Recognisable by {details} over {base}.", "Recognisable by {base}."),
    ("In a photograph its flag is {base} with {details}.", "In a photograph its flag is {base}."),
    ("People there wave {base}, with {details}.", "People there wave {base}."),
    ("The national colours: {base}, plus {details}.", "The national colours: {base}."),
)
TEST_TEMPLATES = (
    ("Expect {base} carrying {details}.", "Expect {base}."),
    ("The flag is made of {base}, on which one finds {details}.", "The flag is made of {base}."),
    ("There would be {details} set against {base}.", "There would be {base}, nothing more."),
    ("On the flagpole: {base} together with {details}.", "On the flagpole: {base}."),
    ("Seen from afar, {base}; closer up, {details}.", "Seen from afar, {base}."),
    ("The picture should hold {base} that displays {details}.", "The picture should hold {base}."),
    ("What hangs there is {base} decorated by {details}.", "What hangs there is {base}."),
    ("Spot it through {details}, drawn upon {base}.", "Spot it through {base}."),
    ("This place is known for {base}, adorned with {details}.", "This place is known for {base}."),
    ("As a design: {base}, then {details}.", "As a design: {base}."),
)

MOST_WORDS = 31  # about 45 tokens of CLIP's tokenizer with punctuation and the two ends


def explanations(entity: Entity, split: Literal["train", "test"]) -> tuple[str, ...]:
    """Paraphrases of what the entity's flag looks like, without its name.

    The same entity always gets the same sentences; what is beyond `MOST_WORDS` words is left out: where
    the details are, then the last details.

    Returns:
        Twelve (train) or ten (test) distinct sentences.
    """
    return _explanations(entity.spec, split)


@lru_cache(maxsize=8192)
def _explanations(flag: FlagSpec, split: Literal["train", "test"]) -> tuple[str, ...]:
    templates, styles = (TRAIN_TEMPLATES, TRAIN_STYLES) if split == "train" else (TEST_TEMPLATES, TEST_STYLES)
    sentences = []
    for i, (full, plain) in enumerate(templates):
        style = styles[i % len(styles)]
        base, bare = base_phrase(flag, style), detail_phrases(flag, style, placed=False)
        candidates = [detail_phrases(flag, style), *(bare[:kept] for kept in range(len(bare), 0, -1))]
        sentences.append(_sentence(full, plain, base, candidates))
    return tuple(sentences)


def _sentence(full: str, plain: str, base: str, candidates: list[tuple[str, ...]]) -> str:
    """The first candidate list of details that is not empty and short enough, else the ground alone."""
    for details in candidates:
        sentence = full.format(base=base, details=joined(details)) if details else ""
        if sentence and len(sentence.split()) <= MOST_WORDS:
            return sentence
    return plain.format(base=base)
