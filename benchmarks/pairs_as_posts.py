"""Turn a `pairs.jsonl` of real image–text pairs into a stream of posts, text and image apart.

    python benchmarks/pairs_as_posts.py ../shared/data posts.jsonl
    entityclip run --source file:posts.jsonl --media-root ../shared/data --sink file:matches.jsonl

The order is shuffled with a fixed seed. Prints how many posts were written.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path


def posts(pairs: list[dict[str, object]]) -> list[dict[str, object]]:
    """Two posts a pair: its text, and its picture by a path below the media root."""
    made: list[dict[str, object]] = []
    for pair in pairs:
        entities = [entity["name"] for entity in pair["entities"]]  # type: ignore[attr-defined]
        made.append({"id": f"{pair['id']}-text", "text": pair["text"], "entities": entities})
        made.append({"id": f"{pair['id']}-image", "images": [{"path": pair["image"]}]})
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with pairs.jsonl and images/")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    lines = (arguments.data / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    made = posts([json.loads(line) for line in lines])
    random.Random(0).shuffle(made)
    with arguments.output.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(post, ensure_ascii=False) + "\n" for post in made)
    print(f"{len(made)} posts written to {arguments.output}")


if __name__ == "__main__":
    main()
