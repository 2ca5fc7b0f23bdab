"""Build the image with buildah and try it as a container would run it.

    python -m tests.deploy.build_image --variant cpu

Needs root, buildah, unshare, setpriv, port 9108, and some GB of disk (30 for `cuda`); no Docker. Each command
runs as the image's user and process 1, without capabilities, on a root file system that is read-only but for
/tmp, /dev/shm and HOME. The network is the machine's. Where no registry is in reach, a base can be made:

    mmdebstrap --variant=minbase --include=ca-certificates bookworm base.tar
    printf 'FROM scratch\\nADD base.tar /\\n' > base && buildah build --tag localhost/base --file base .

and named: `--build=--build-arg=BASE=localhost/base --build=--pull-never`. pip's settings of this machine are
laid over the build's files: `--build=--volume=/etc/pip.conf:/etc/pip.conf:ro`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PORT = 9108
_PATIENCE_S = 300.0
_POSTS = [
    {"id": "1", "text": "Fishermen from Saint Lucia wait", "published_at": "2026-05-01T08:00:00Z"},
    {"id": "2", "text": "A vote in Kenya", "published_at": "2026-05-01T09:00:00Z"},
]
# $1: the image's files, $2: the data volume; the rest is the command
_ENTER = """
set -eu
root=$1 data=$2; shift 2
mount --bind "$root" "$root" && mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom; do
    : > "$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/shm" && mount -t tmpfs -o mode=1777,size=64m tmpfs "$root/dev/shm"
mount --bind "$data" "$root/var/lib/entityclip"
exec chroot "$root" setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set=-all \
    --inh-caps=-all -- env --ignore-environment --chdir=/var/lib/entityclip "$@"
"""


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: its configuration, as Docker sees it, and its layers' sizes in bytes, lowest first."""

    name: str
    config: Mapping[str, Any]
    layers: Sequence[int]


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Where commands of an image run.

    Args:
        files: of the image, mounted.
        data: what lies under HOME.
    """

    image: Image
    files: Path
    data: Path

    def command(self, arguments: Sequence[str]) -> list[str]:
        """What runs `arguments`, in the image's environment, as process 1 of its own namespace."""
        enter = ["sh", "-c", _ENTER, "sh", str(self.files), str(self.data), *self.image.config["Env"]]
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", *enter, *arguments]

    def entry(self, *arguments: str) -> list[str]:
        """What runs the image with this command."""
        return self.command([*self.image.config["Entrypoint"], *arguments])

    def health(self) -> int:
        """The exit status of the image's health check."""
        kind, *check = self.image.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return subprocess.run(self.command(check), check=False, capture_output=True).returncode


def build(variant: str, name: str, options: Sequence[str]) -> Image:
    """Build it, layers kept.

    Raises:
        subprocess.CalledProcessError: buildah says why.
    """
    arguments = [
        f"--build-arg=VARIANT={variant}",
        "--layers",
        "--format=docker",
        "--isolation=chroot",
        *options,
    ]
    command = ["buildah", "build", *arguments, "--file=deploy/Dockerfile", f"--tag={name}", "."]
    subprocess.run(command, cwd=ROOT, check=True)
    return read(name)


def read(name: str) -> Image:
    """An image that was built."""
    found = json.loads(_output("buildah", "inspect", "--type=image", name))
    layers = [layer["size"] for layer in json.loads(found["Manifest"])["layers"]]
    return Image(name, found["Docker"]["config"], layers)


@contextlib.contextmanager
def sandbox(image: Image) -> Iterator[Sandbox]:
    """Its files and an empty HOME, for as long as the context is open."""
    container = _output("buildah", "from", "--pull-never", image.name)
    data = Path(tempfile.mkdtemp(prefix="entityclip-image-"))
    try:
        shutil.chown(data, 10001, 10001)
        yield Sandbox(image, Path(_output("buildah", "mount", container)), data)
    finally:
        _output("buildah", "rm", container)
        shutil.rmtree(data)


def try_help(box: Sandbox) -> None:
    """How long `--help` takes: everything that is imported was compiled."""
    for _ in range(3):
        started = time.monotonic()
        subprocess.run(box.entry("--help"), check=True, stdout=subprocess.DEVNULL)
        print(f"--help: {time.monotonic() - started:.2f} s")


def try_demo(box: Sandbox) -> None:
    """The demo needs nothing but its HOME."""
    started = time.monotonic()
    done = subprocess.run(box.entry("demo"), check=True, capture_output=True, text=True)
    print(done.stdout, f"demo: {time.monotonic() - started:.1f} s", sep="")
    assert (box.data / "entityclip-demo.html").is_file()


def try_run(box: Sandbox) -> None:
    """A worker that waits for more posts becomes healthy, runs as it should, and ends with SIGTERM."""
    command = box.entry(*box.image.config["Cmd"], "--source", "file:-", "--sink", "file:matches.jsonl")
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.writelines(json.dumps(post).encode() + b"\n" for post in _POSTS)
        process.stdin.flush()
        _wait_until("healthy", lambda: box.health() == 0, process)
        _wait_until("ready", lambda: _get("/readyz") is not None, process)
        _wait_until("all posts matched or not", lambda: _outcomes() == len(_POSTS), process)
        first = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
        _say_who(first)
        os.kill(int(first), signal.SIGTERM)
        code = process.wait(60)
    print(f"SIGTERM: exit status {code}; health check afterwards: {box.health()}")
    assert code == 0
    assert box.health() != 0


def _wait_until(what: str, holds: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    started = time.monotonic()
    while not holds():
        assert process.poll() is None, f"the worker ended with {process.returncode}"
        assert time.monotonic() < started + _PATIENCE_S, f"it never came to: {what}"
        time.sleep(0.2)
    print(f"{what}: after {time.monotonic() - started:.1f} s")


def _get(path: str) -> str | None:
    """What the worker answers there; None where it has no answer or a bad one."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=5) as answer:
            body: bytes = answer.read()
            return body.decode()
    except OSError:
        return None


def _outcomes() -> float:
    lines = (_get("/metrics") or "").splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("entityclip_outcomes_total{"))


def _say_who(pid: str) -> None:
    """Process 1 of the sandbox and its child: name, user, capabilities."""
    child = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
    for each in (pid, child):
        lines = Path(f"/proc/{each}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        print(f"process {status['Name']}: uid {status['Uid'].split()}, capabilities {status['CapEff']}")
        assert set(status["Uid"].split()) == {"10001"}
        assert int(status["CapEff"], 16) == 0


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def main() -> int:
    """Build, and try."""
    parser = argparse.ArgumentParser(description="Build the image and try it.")
    parser.add_argument("--variant", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--build", action="append", default=[], metavar="OPTION", help="of buildah build")
    parser.add_argument("--built", action="store_true", help="try the image that is there")
    options = parser.parse_args()
    checks = (try_help, try_demo, try_run)
    name = "localhost/entityclip:0.1.0" + ("-cuda" if options.variant == "cuda" else "")
    image = read(name) if options.built else build(options.variant, name, options.build)
    print("layers:", ", ".join(f"{size / 1e6:.1f} MB" for size in image.layers))
    with sandbox(image) as box:
        for check in checks:
            check(box)
        print("HOME:", *sorted(path.name for path in box.data.iterdir()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
