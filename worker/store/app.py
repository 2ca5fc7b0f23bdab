"""The subset of Qdrant's REST API that the embedded store serves.

Requests are read as qdrant-client's own generated models, so what the client sends is what is read here;
answers are those models too, or, where there are thousands of points, plain dictionaries of the same form
(`worker.store.answers`). A call or a field that is not served is a 501 that names it.

    400  a request that cannot be read, or a vector that must not be stored
    404  no such collection or alias
    409  the collection is there already
    413  the body is over the limit
    500  the engine failed; after a failed write the process ends, and the next one loads the folder anew
    501  not supported by the embedded store
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pydantic import ValidationError
from pydantic_core import to_json
from qdrant_client.http import models as m
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from worker.store.catalog import ENGINE, AlreadyExists, Catalog, NotFound, engine_version
from worker.store.operations import OPERATIONS, Call, Operation
from worker.store.shard import EngineError
from worker.store.translate import BadRequest, Unsupported

MAX_BODY_BYTES = 32 << 20
_log = logging.getLogger(__name__)


class TooLarge(Exception):
    """The body is over the limit."""


@dataclass(slots=True)
class Activity:
    """What the store is doing, for whoever decides when to do upkeep. Event loop thread only."""

    in_flight: int = 0
    last_at: float = field(default_factory=time.monotonic)

    def idle_s(self) -> float:
        """Seconds since the last request ended; 0 while one is being served."""
        return 0.0 if self.in_flight else time.monotonic() - self.last_at


def build_app(catalog: Catalog, activity: Activity, on_broken: Callable[[], None]) -> Starlette:
    """The ASGI application.

    Args:
        activity: kept up to date by every request.
        on_broken: called on the event loop after a write failed in the engine: stop serving.
    """

    def endpoint(operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            activity.in_flight += 1
            try:
                return await _answer(catalog, operation, request, on_broken)
            finally:
                activity.in_flight -= 1
                activity.last_at = time.monotonic()

        return serve

    routes = [Route(path, endpoint(operation), methods=[method]) for method, path, operation in OPERATIONS]
    every = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    routes.append(Route("/", _version))
    routes += [Route(path, _health) for path in ("/healthz", "/livez", "/readyz")]
    routes += [Route("/{path:path}", endpoint(_unsupported(method)), methods=[method]) for method in every]
    return Starlette(routes=routes)


async def _health(request: Request) -> Response:
    return PlainTextResponse(f"{request.url.path.strip('/')} check passed")


async def _version(request: Request) -> Response:
    version = m.VersionInfo(title=f"EntityCLIP's embedded store on {ENGINE}", version=engine_version())
    return Response(to_json(version), media_type="application/json")


async def _answer(
    catalog: Catalog, operation: Operation, request: Request, on_broken: Callable[[], None]
) -> Response:
    started = time.perf_counter()
    status, result, error = 200, None, None
    name = request.path_params.get("name", request.url.path)
    try:
        call = Call(catalog, name, await _body(request))
        result = await run_in_threadpool(operation, call)
    except (BadRequest, ValidationError) as problem:
        status, error = 400, _one_line(problem)
    except NotFound as problem:
        status, error = 404, f"Not found: {problem}"
    except AlreadyExists as problem:
        status, error = 409, f"Wrong input: {problem}"
    except TooLarge as problem:
        status, error = 413, str(problem)
    except Unsupported as problem:
        status, error = 501, f"the embedded store does not support {problem}; a Qdrant server does"
    except EngineError as problem:
        status, error = _engine_status(problem, deleted=not catalog.exists(name)), str(problem)
        if status == 500 and problem.while_writing:
            _log.error("%s %s: the engine failed: %s", request.method, request.url.path, error)
            on_broken()
    except OSError as problem:
        status, error = 500, f"Service internal error: {problem}"
        _log.error("%s %s: %s", request.method, request.url.path, problem)
    content: dict[str, object] = {"status": {"error": error} if error else "ok", "result": result}
    content["time"] = time.perf_counter() - started
    return Response(to_json(content), status, media_type="application/json")


def _engine_status(error: EngineError, *, deleted: bool) -> int:
    if deleted:  # by another client, between our looking the collection up and using it
        return 404
    return 500 if error.while_writing or str(error).startswith("Service ") else 400


async def _body(request: Request) -> bytes:
    # An oversized body is read to its end, and thrown away: a client that is still sending when the
    # connection closes would see a broken pipe in place of the answer.
    body, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= MAX_BODY_BYTES:
            body += chunk
        else:
            body.clear()
    if size > MAX_BODY_BYTES:
        raise TooLarge(f"JSON payload ({size} bytes) is larger than allowed (limit: {MAX_BODY_BYTES} bytes)")
    return bytes(body)


def _one_line(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return f"Wrong input: {error}"
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"Format error in JSON body: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def _unsupported(method: str) -> Operation:
    def refuse(call: Call) -> object:
        raise Unsupported(f"{method} {call.name}")

    return refuse
