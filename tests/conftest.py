"""Fixtures that several tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.kafka.fixtures import kafka, own_kafka, secure_kafka
from tests.random_model import random_model
from tests.redis_server import redis_server

__all__ = ["kafka", "own_kafka", "redis_server", "secure_kafka"]  # fixtures
DATA_VARIABLE = "ENTITYCLIP_TEST_DATA"


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command that a test runs in this process configures logging for the whole of it."""
    config = structlog.get_config()
    yield
    structlog.configure(**config)


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint's folder with random weights: 32 px images, 32-d vectors, built in no time.

    Its calibration calls nearly every pair a match, because random vectors say nothing about pairs.
    """
    folder = tmp_path_factory.mktemp("random-checkpoint")
    random_model(folder, seed=0)
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, where there is one."""
    default = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get(DATA_VARIABLE, default))
    if not (folder / "pairs.jsonl").is_file():
        pytest.skip(f"no real data in {folder}: set {DATA_VARIABLE} to the folder that holds pairs.jsonl")
    return folder


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes for the whole default run, which mostly waits; what is run by hand stays in this one."""
    is_default = config.args == config.getini("testpaths") and config.option.capture != "no"
    return 2 if is_default and config.option.markexpr in config.getini("addopts") else 0
