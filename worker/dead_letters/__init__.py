"""Dead letters: the raw bytes of a refused record, with where it came from and why.

Keyed by source topic, partition and offset, so that writing one again replaces it.

    letter  one letter, as a record of a topic and as a line of a file
    reads   the letters of a file or a topic, and which of them are meant
    replay  records back to where they came from
"""

from worker.dead_letters.letter import (
    DeadLetterLine,
    HeaderLine,
    as_line,
    dead_letter_message,
    key_of_line,
    letter_of,
    message_bytes,
)
from worker.dead_letters.reads import read_dead_letters

__all__ = [
    "DeadLetterLine",
    "HeaderLine",
    "as_line",
    "dead_letter_message",
    "key_of_line",
    "letter_of",
    "message_bytes",
    "read_dead_letters",
]
