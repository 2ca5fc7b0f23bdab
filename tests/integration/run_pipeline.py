"""Runs one pipeline in a process of its own: `python -m tests.integration.run_pipeline CONFIG.toml`.

Prints the summary as one line of JSON; exits as the command line does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from worker.build import build_pipeline
from worker.config import load_config
from worker.errors import ExitCode, WorkerError
from worker.signals import stop_on_signal


def main() -> int:
    try:
        config = load_config(Path(sys.argv[1]))
        with build_pipeline(config) as pipeline, stop_on_signal(pipeline):
            summary = pipeline.run()
    except WorkerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps({"posts": summary.posts, "matches": summary.matches, "stopped": summary.stopped}))
    return ExitCode.INTERRUPTED if summary.stopped else ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
