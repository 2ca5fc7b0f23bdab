"""Write the generated files of `deploy/`, or say whether they are current.

python -m deploy.generate            # writes those that are not
python -m deploy.generate --check    # writes nothing; exit code 1 if any is not
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from deploy.generate import schema
from deploy.generate.dashboard import dashboard

_FOLDER = Path(__file__).parents[1]
_DASHBOARD = _FOLDER / "chart" / "files" / "dashboard.json"


def contents() -> dict[Path, str]:
    """What each generated file should hold."""
    return {
        schema.PATH: schema.updated(schema.PATH.read_text(encoding="utf-8")),
        _DASHBOARD: json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n",
    }


def main(arguments: list[str] | None = None) -> int:
    """Write or check; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.generate", description="Generated files of deploy/."
    )
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if a file is not current")
    options = parser.parse_args(arguments)
    stale = [path for path, text in contents().items() if not path.exists() or _read(path) != text]
    for path in stale:
        print(f"{path.relative_to(_FOLDER)} {'is not current' if options.check else 'written'}")
        if not options.check:
            path.write_text(contents()[path], encoding="utf-8")
    return 1 if stale and options.check else 0


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
