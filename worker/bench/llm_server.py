"""An OpenAI-compatible endpoint that answers after a set time, in a process of its own.

    with answering_after(0.4) as base_url: …

    python -m worker.bench.llm_server --latency-ms 400      prints its URL, serves until its stdin closes

It takes a real endpoint's place where the worker is measured: every call waits as long as it says, however
many there are at once, and the answer is an explanation of the usual length.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

_ANSWER = (
    "A flag of three horizontal bands, white above red above dark green, with a small yellow star near the "
    "hoist; it flies from a pole over a crowd in light summer clothes."
)
_STOP_S = 10.0


@contextmanager
def answering_after(latency_s: float) -> Iterator[str]:
    """Serve on loopback while the context is open; gives the base URL.

    Raises:
        RuntimeError: the process did not start.
    """
    command = [sys.executable, "-m", __name__, "--latency-ms", str(latency_s * 1000)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError("the endpoint that stands in for an LLM did not start")
            yield url
        finally:
            process.stdin.close()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def serve(latency_s: float) -> None:
    """Print the base URL and serve until stdin closes; blocks."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    body = msgspec.json.encode(_completion())

    async def answer(request: Request) -> Response:
        await request.body()
        await asyncio.sleep(latency_s)
        return Response(body, media_type="application/json")

    app = Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))

    def leave_with_parent() -> None:
        sys.stdin.read()
        server.should_exit = server.force_exit = True

    threading.Thread(target=leave_with_parent, daemon=True).start()
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", flush=True)
    server.run(sockets=[listening])


def _completion() -> dict[str, object]:
    content = msgspec.json.encode({"known": True, "explanation": _ANSWER}).decode()
    return {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 0,
        "model": "bench",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
        ],
        "usage": {"prompt_tokens": 400, "completion_tokens": 45, "total_tokens": 445},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency-ms", type=float, default=400.0)
    serve(parser.parse_args().latency_ms / 1000)
