"""What the text tower is given of a caption and its explanation while it is trained."""

from __future__ import annotations

from typing import Literal

TextMode = Literal["caption", "concat", "description"]


def pair_texts(mode: TextMode, caption: str, explanation: str) -> tuple[str, str]:
    """What stands in a training row as text, and as explanation beside it.

    Args:
        mode: `caption`, the two beside each other; `concat`, one behind the other in the text; `description`,
            the explanation in the caption's place. Without explanation all three are the caption.
    """
    if mode == "caption" or not explanation:
        return caption, explanation
    return (explanation if mode == "description" else f"{caption} {explanation}"), ""
