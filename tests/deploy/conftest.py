"""Fixtures that the tests of the probes share."""

from tests.deploy.installation import cluster, store

__all__ = ["cluster", "store"]
