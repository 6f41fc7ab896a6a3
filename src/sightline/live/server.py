"""The server of the live page: one model, one thread that runs it, and people who wait in a line."""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import secrets
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from threading import Event
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sightline.errors import InputError, SightlineError
from sightline.files.json import plain
from sightline.live.question import LiveQuestion, cut_of, question_of
from sightline.live.snippet import python_of

if TYPE_CHECKING:
    from sightline.live.engine import Engine

UPLOAD_BYTES = 60 * 2**20
"""Of one request: a photograph of 30 megapixels in base64 fits."""

OnFailure = Callable[[Exception], None] | None

LOOPBACK = ("127.0.0.1", "localhost", "::1")

SCRIPTS = ("d3.min.js", "page.js", "paint.js", "pane.js", "sample.js")
"""The report's own painting code."""

OWN_FILES = ("app.css", "ask.js", "view.js", "cut.js", "keep.js", "app.js")

POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'self'"
)


class WaitingLine:
    """Runs the engine in one thread of its own, and shows those who wait their place.

    is_working: whether the thread is at work, for whose end the interpreter waits at its own.
    """

    def __init__(self) -> None:
        self.is_working = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sightline-live")
        self._waiting: list[tuple[object, bool]] = []

    def close(self) -> None:
        """Take no more work."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def run(
        self, work: Callable[[], Any], on_place: Callable[[int], None] | None = None, is_own: bool = False
    ) -> Any:
        """The result of `work`; on_place is given the number of requests before it whenever what is before it changes.

        is_own: work of the page itself, such as loading, which is no request and not counted.
        """
        mark, last = (object(), not is_own), -1
        self._waiting.append(mark)
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._worked, work)
        try:
            while True:
                before = self._waiting[: self._waiting.index(mark)]
                if len(before) != last and on_place is not None:
                    on_place(sum(is_counted for _, is_counted in before))
                last = len(before)
                done, _ = await asyncio.wait([future], timeout=0.2)
                if done:
                    return future.result()
        finally:
            self._waiting.remove(mark)
            future.cancel()

    def _worked(self, work: Callable[[], Any]) -> Any:
        self.is_working = True
        try:
            return work()
        finally:
            self.is_working = False


class _Guard(BaseHTTPMiddleware):
    """Asks for the token where there is one, and bounds what is uploaded."""

    def __init__(self, app: Any, token: str | None) -> None:
        super().__init__(app)
        self._token = token

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Starlette's hook around every request."""
        given = request.query_params.get("token") or request.cookies.get("sightline-token") or ""
        if self._token is not None and not secrets.compare_digest(given, self._token):
            return _refusal("The address lacks its token: use the one that the command line printed.", 403)
        if int(request.headers.get("content-length") or 0) > UPLOAD_BYTES:
            return _refusal(f"The pictures are larger than {UPLOAD_BYTES // 2**20} MiB: give smaller ones.", 413)
        response = await call_next(request)
        response.headers["content-security-policy"] = POLICY
        response.headers["x-content-type-options"] = "nosniff"
        response.headers["cache-control"] = "no-store"
        if self._token is not None:
            response.set_cookie("sightline-token", self._token, httponly=True, samesite="strict")
        return response


def _refusal(sentence: str, status: int = 400) -> JSONResponse:
    return JSONResponse({"error": sentence}, status)


async def _body(request: Request) -> dict[str, Any]:
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > UPLOAD_BYTES:
            raise InputError(f"The pictures are larger than {UPLOAD_BYTES // 2**20} MiB: give smaller ones.")
    try:
        body = json.loads(bytes(content))
    except (ValueError, RecursionError) as error:
        raise InputError("The request is no JSON.") from error
    if not isinstance(body, dict):
        raise InputError("The request is no JSON object.")
    return body


def build(name: str, load: Callable[[], Engine], token: str | None = None, on_failure: OnFailure = None) -> Starlette:
    """The application, which answers at once and loads its model in the line, before the first question.

    Args:
        name: of the model.
        load: gives the engine with its model; run once, in the line's thread.
        token: what an address must carry; None for loopback.
        on_failure: is given what loading raised.
    """
    line = WaitingLine()
    found: list[Engine] = []

    def engine() -> Engine:
        if not found:
            raise InputError(f"The model {name} is not loaded.")
        return found[0]

    async def home(_: Request) -> Response:
        return HTMLResponse(_page(name))

    async def asset(request: Request) -> Response:
        file = request.path_params["name"]
        text = _asset(file)
        if text is None:
            return _refusal(f"There is no file {file}.", 404)
        return Response(text, media_type="text/css" if file.endswith(".css") else "text/javascript")

    async def ask(request: Request) -> Response:
        question = question_of(await _body(request))
        return StreamingResponse(
            _answering(engine, line, question, lambda: bool(found)), media_type="application/x-ndjson"
        )

    async def methods(_: Request) -> Response:
        return JSONResponse(plain(await line.run(lambda: engine().methods(), is_own=True)))

    async def cut(request: Request) -> Response:
        answer_name, wanted = request.path_params["name"], cut_of(await _body(request))
        return JSONResponse(plain(await line.run(lambda: engine().cut(answer_name, wanted))))

    async def lens(request: Request) -> Response:
        answer_name, position = request.path_params["name"], request.path_params["position"]
        return JSONResponse(plain(await line.run(lambda: engine().lens(answer_name, position))))

    async def answer(request: Request) -> Response:
        kept = engine().answer(request.path_params["name"])
        return JSONResponse(plain(kept.document | {"prompt": kept.question.prompt, "turns": kept.question.turns}))

    async def code(request: Request) -> Response:
        return JSONResponse({"code": python_of(name, engine().answer(request.path_params["name"]).question)})

    async def report(request: Request) -> Response:
        names = [part for part in request.query_params.get("answers", "").split(" ") if part]
        if not names:
            raise InputError("There is no answer to report: ask first.")
        text = await line.run(lambda: engine().report(names))
        return HTMLResponse(text, headers={"content-disposition": 'attachment; filename="sightline.html"'})

    async def failed(_: Request, error: Exception) -> Response:
        return _refusal(str(error))

    async def left(_: Request, error: Exception) -> Response:
        return Response(status_code=499)

    async def ready() -> None:
        try:
            await line.run(lambda: found.append(load()), is_own=True)
        except Exception as error:  # of any library that takes part in loading; the caller knows what to do with it
            if on_failure is not None:
                on_failure(error)

    @contextlib.asynccontextmanager
    async def living(_: Starlette) -> AsyncIterator[None]:
        loading = asyncio.create_task(ready())
        yield
        loading.cancel()
        line.close()

    page = Starlette(
        routes=[
            Route("/", home),
            Route("/assets/{name}", asset),
            Route("/methods", methods),
            Route("/ask", ask, methods=["POST"]),
            Route("/report", report),
            Route("/answers/{name}", answer),
            Route("/answers/{name}/cut", cut, methods=["POST"]),
            Route("/answers/{name}/lens/{position:int}", lens),
            Route("/answers/{name}/python", code),
        ],
        middleware=[Middleware(_Guard, token=token)],
        exception_handlers={SightlineError: failed, ClientDisconnect: left},
        lifespan=living,
    )
    page.state.line = line
    return page


async def _answering(
    engine: Callable[[], Engine], line: WaitingLine, question: LiveQuestion, is_loaded: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Lines of JSON: {"place", "loaded"} while it waits, {"text"} as it is written, then {"answer"} or {"error"}."""
    loop, stop = asyncio.get_running_loop(), Event()
    events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def notify(event: dict[str, Any]) -> None:
        loop.call_soon_threadsafe(events.put_nowait, event)

    async def work() -> None:
        try:
            found = await line.run(
                lambda: engine().ask(question, lambda text: notify({"text": text}), stop),
                lambda place: notify({"place": place, "loaded": is_loaded()}),
            )
            notify({"answer": found})
        except SightlineError as error:
            notify({"error": str(error)})
        except Exception as error:  # one bad request must harm nobody: it is that person's sentence
            notify({"error": f"The model failed on this question ({type(error).__name__}: {error})."[:500]})
        finally:
            loop.call_soon_threadsafe(events.put_nowait, None)

    running = asyncio.create_task(work())
    try:
        while (event := await events.get()) is not None:
            yield (json.dumps(plain(event), ensure_ascii=False) + "\n").encode("utf-8", "replace")
    finally:  # a closed tab stops its own answer
        stop.set()
        if not running.done():
            running.cancel()


def _asset(name: str) -> str | None:
    for package, known in (("sightline.pages", (*SCRIPTS, "page.css")), ("sightline.live", OWN_FILES)):
        if name in known:
            return (resources.files(package) / "assets" / name).read_text(encoding="utf-8")
    return None


def _page(name: str) -> str:
    text = (resources.files("sightline.live") / "assets" / "app.html").read_text(encoding="utf-8")
    return text.replace("<!--model-->", html.escape(name))
