"""`entityclip try-record`: what a worker starts to try a suspicious record; not meant for people."""

from __future__ import annotations

import sys

import msgspec

from worker.errors import ConfigError, ExitCode


def try_record() -> int:
    """Run one record, told on standard input, through a pipeline that writes nothing but points."""
    from worker.build import build_pipeline
    from worker.flow.trial import OneRecord, Trial

    try:
        trial = msgspec.json.decode(sys.stdin.buffer.read(), type=Trial)
    except ValueError as error:
        raise ConfigError(f"standard input holds no trial: {error}") from error
    with build_pipeline(trial.config, source=OneRecord(trial.record())) as pipeline:
        pipeline.run()
    return ExitCode.DONE
