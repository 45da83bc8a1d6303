"""The server of `progan app`: the page, its pictures, and a training as it comes; Starlette and uvicorn (extra `app`).

The page is that of `progan export web`; where `progan.json` has a `server` its pictures are made here.
"""

import asyncio
import contextlib
import html
import json
import math
import os
import queue
import re
import secrets
import socket
import tempfile
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan.app import runs
from progan.app.desk import MOST_STREAMS, Desk, state
from progan.app.guard import Guard, TooLargeError, is_loopback
from progan.app.pictures import FILM_TYPES, BusyError, StoppedError, Wish
from progan.app.runs import Missing, Shelf, Watch
from progan.commands import AppConfig
from progan.config import MOST_SEED
from progan.errors import ConfigError, ProganError
from progan.files import printable
from progan.progress import Log
from progan.run_folder import RunFolder

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

MOST_SENT = 3000
"""Lines of stats.jsonl that are sent at once, of those with a measurement or a notice and of the others: of more, every
second or third."""
MOST_CONNECTIONS = 512
LONGEST_LABEL = 2000
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".png": "image/png"}
_EVERY, _ALIVE = 1.0, 15.0  # seconds between two looks at a training, and between two signs of life
_DOCUMENT = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "frame-ancestors 'self'"
)
"""Policy for pages that lie in folders: their scripts run with no rights, and can ask this server for nothing."""


def application(desk: Desk, token: str, host: str) -> Guard:
    """The ASGI application."""
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    def run_of(request: "Request") -> RunFolder:
        return desk.shelf.run(_text(request, "run", 1000))[1]

    def page_file(request: "Request") -> "Response":
        name = request.path_params.get("name") or "index.html"
        if name not in desk.files:
            raise Missing("there is nothing of that name here")
        # index.html brings its own, stricter policy; only who may show it in a frame is a header's business.
        own = {"content-security-policy": "frame-ancestors 'none'"}
        return Response(desk.files[name], media_type=TYPES[Path(name).suffix], headers=own)

    def facts(request: "Request") -> "Response":
        name = _text(request, "run", 1000)
        return JSONResponse(runs.facts(desk.shelf, name, request.scope["progan.token"], desk.reals))

    def manifest(request: "Request") -> "Response":
        return Response('{"name": "progan", "display": "browser"}', media_type="application/manifest+json")

    def icon(request: "Request") -> "Response":
        return Response(_icon(), media_type="image/png", headers={"cache-control": "max-age=86400"})

    async def picture(request: "Request") -> "Response":
        path, wish = await run_in_threadpool(model_of, request), _wish(request)
        kept = _kept(path)
        if _has(request, kept):
            return Response(status_code=304, headers=kept)
        content, side, seconds = await asyncio.wrap_future(desk.studio.do(lambda: desk.studio.picture(path, wish)))
        about = {"x-progan-side": str(side), "x-progan-seconds": f"{seconds:.4f}"}
        return Response(content, media_type="application/octet-stream", headers={**about, **kept})

    async def film(request: "Request") -> "Response":
        path, wish = await run_in_threadpool(model_of, request), _wish(request)
        if not wish.moves:
            raise ConfigError("a film goes from one seed or label to another")
        kind = _text(request, "kind", 100) or "webp"
        if kind not in FILM_TYPES:
            raise ConfigError(f"a film is one of {', '.join(FILM_TYPES)}")
        job = desk.studio.do(lambda: desk.studio.film(path, wish, kind), long=True)
        return Response(await asyncio.wrap_future(job), media_type=FILM_TYPES[kind])

    def model_of(request: "Request") -> Path:
        return desk.shelf.model(_text(request, "run", 1000), _text(request, "model", 1000))

    def grid(request: "Request") -> "Response":
        path = runs.grid(run_of(request), _text(request, "name", 100))
        kept = _kept(path)
        if _has(request, kept):
            return Response(status_code=304, headers=kept)
        return FileResponse(path, media_type="image/png", headers=kept)

    async def training(request: "Request") -> "Response":
        folder = await run_in_threadpool(run_of, request)
        if desk.streams >= MOST_STREAMS:
            raise BusyError("too many follow a training already: try again soon")

        async def events() -> AsyncIterator[str]:
            """All lines first, then new ones as they come; the state whenever it is another."""
            seen: list[dict[str, Any]] = []
            told, quiet = "", 0.0
            desk.streams += 1
            try:
                while True:
                    watch = await run_in_threadpool(desk.watch, folder)
                    new, now, seen = await run_in_threadpool(_news, watch, seen)
                    if new:
                        yield new
                    if now != told or new:
                        yield now
                        told, quiet = now, 0.0
                    elif quiet >= _ALIVE:
                        yield ": still here\n\n"
                        quiet = 0.0
                    await asyncio.sleep(_EVERY)
                    quiet += _EVERY
            except (ProganError, OSError) as error:  # the run was moved away
                yield _event("gone", _told(error)[1])
            finally:
                desk.streams -= 1

        return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-store"})

    def stop(request: "Request") -> "Response":
        runs.ask_to_stop(run_of(request))
        return JSONResponse({"asked": True})

    async def document(request: "Request") -> "Response":
        if not desk.reals:
            raise ConfigError("pages with training images are not shown here (--no-reals)")
        if request.path_params["kind"] == "data":
            making = await run_in_threadpool(lambda: desk.data_page(run_of(request)))
            content = await asyncio.wrap_future(making)  # it takes long: who waits for it holds no thread
        else:
            content = await run_in_threadpool(kept_page, request)
        return HTMLResponse(content, headers={"content-security-policy": _DOCUMENT})

    def kept_page(request: "Request") -> str:
        if request.path_params["kind"] == "compare":
            places, name = desk.shelf.contents().comparisons, _text(request, "name", 1000)
            if name not in places:
                raise Missing("there is no such comparison here: reload the page")
            path = places[name] / "report.html"
        else:
            folder = run_of(request)
            path = runs.inside(folder, folder.path / "report.html")
        return path.read_text(encoding="utf-8", errors="replace")

    async def search(request: "Request") -> "Response":
        path, label = await run_in_threadpool(model_of, request), _text(request, "label", LONGEST_LABEL)
        folder = None if desk.shelf.snapshot else await run_in_threadpool(run_of, request)
        content = await request.body()
        said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        left = threading.Event()

        def tell(fact: Any) -> None:
            if left.is_set():
                raise StoppedError
            said.put(fact)

        job = desk.studio.do(lambda: desk.studio.search(folder, path, content, label, desk.reals, tell), long=True)

        async def lines() -> AsyncIterator[str]:
            try:
                while not (job.done() and said.empty()):
                    try:
                        yield json.dumps(said.get_nowait()) + "\n"
                    except queue.Empty:
                        await asyncio.sleep(0.05)
                error = job.exception()
                if error is not None:
                    words = _told(error)[1] if isinstance(error, ProganError | OSError) else "it failed"
                    yield json.dumps({"error": words}) + "\n"
            finally:
                left.set()
                job.cancel()

        return StreamingResponse(lines(), media_type="application/x-ndjson", headers={"cache-control": "no-store"})

    def failed(request: "Request", error: Exception) -> "Response":
        code, words = _told(error)
        return JSONResponse({"error": words}, code, {"retry-after": "1"} if code == 503 else {})

    routes = [
        Route("/", page_file),
        Route("/progan.json", facts),
        Route("/manifest.json", manifest),
        Route("/icons/icon-192.png", icon),
        Route("/favicon.ico", icon),
        Route("/api/picture", picture),
        Route("/api/film", film),
        Route("/api/grid", grid),
        Route("/api/training", training),
        Route("/api/stop", stop, methods=["POST"]),
        Route("/api/find", search, methods=["POST"]),
        Route("/api/page/{kind:str}", document),
        Route("/{name:path}", page_file),
    ]
    handlers: Any = dict.fromkeys((ProganError, OSError, TooLargeError), failed)
    return Guard(Starlette(routes=routes, exception_handlers=handlers), token, host)


def _told(error: BaseException) -> tuple[int, str]:
    """Code and words of the answer to what went wrong."""
    if isinstance(error, TooLargeError):
        return 413, "that is too large"
    if isinstance(error, FileNotFoundError | NotADirectoryError):  # deleted after it was looked up
        return 404, "that is no longer here: reload the page"
    if isinstance(error, OSError):
        return 500, f"a file cannot be read or written: {error.strerror or error}"
    return 404 if isinstance(error, Missing) else 503 if isinstance(error, BusyError) else 400, printable(str(error))


def _news(watch: Watch, seen: list[dict[str, Any]]) -> tuple[str, str, list[dict[str, Any]]]:
    """Events: lines beyond those that were seen, empty if there are none, and the state; and all lines."""
    lines = watch.lines
    # The same lines are the same objects, unless the file was written anew or the first were dropped.
    goes_on = bool(seen) and len(lines) >= len(seen) and lines[len(seen) - 1] is seen[-1]
    new = lines[len(seen) :] if goes_on else lines
    told = bool(new) or (bool(seen) and not goes_on)
    return _event("more" if goes_on else "all", _thinned(new)) if told else "", _event("state", state(watch)), lines


def _thinned(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """So many lines at most of those with a measurement or a notice, and of the others, evenly, the last ones among
    them.
    """
    told: list[int] = []
    others: list[int] = []
    for i, line in enumerate(lines):
        (told if any(name == "notices" or name.startswith("metrics/") for name in line) else others).append(i)
    kept = [number for numbers in (told, others) for number in numbers[:: -max(1, -(-len(numbers) // MOST_SENT))]]
    return [lines[i] for i in sorted(kept)]


def _event(kind: str, data: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


def _kept(path: Path) -> dict[str, str]:
    """Headers of what is made of a file: a browser keeps it, and asks each time whether the file is still the same.

    A run may be deleted, and another one trained under its name.
    """
    changed, size = runs.version(path)
    return {"cache-control": "private, no-cache", "etag": f'"{changed:x}-{size:x}"'}


def _has(request: "Request", kept: dict[str, str]) -> bool:
    """True for a browser that has it already."""
    return request.headers.get("if-none-match") == kept["etag"]


def _text(request: "Request", name: str, longest: int) -> str:
    """A value of the address, empty if it is not there. Raises ConfigError if it is too long."""
    value = request.query_params.get(name, "")
    if len(value) > longest:
        raise ConfigError(f"{name} is too long")
    return value


def _wish(request: "Request") -> Wish:
    """The picture that an address asks for. Raises ConfigError for a number that is none, or out of range."""

    def seed(name: str) -> int | None:
        text = _text(request, name, 100)
        if not text:
            return None
        if not re.fullmatch(r"[0-9]{1,19}", text) or int(text) > MOST_SEED:
            raise ConfigError(f"{name} must be a whole number from 0 to {MOST_SEED}")
        return int(text)

    def number(name: str, default: float, most: float) -> float:
        text = _text(request, name, 100)
        if not text:
            return default
        value = float(text) if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{0,40})?(e-[0-9]{1,2})?", text) else math.nan
        if not 0 <= value <= most:
            raise ConfigError(f"{name} must be a number from 0 to {most:g}")
        return value

    first, row = seed("seed"), number("row", 0, 1023)
    if row != int(row):
        raise ConfigError("row must be a whole number")
    label, to_label = (_text(request, name, LONGEST_LABEL) for name in ("label", "toLabel"))
    return Wish(first or 0, seed("to"), number("t", 0, 1), number("truncation", 1, 2), label, to_label, int(row))


def _icon() -> bytes:
    """A PNG: coarse pixels that become finer."""
    from io import BytesIO

    from PIL import Image

    icon = Image.new("RGB", (4, 4))
    icon.putdata([(61 + 20 * ((i * 7) % 5), 79 + 12 * ((i * 3) % 7), 196 + 8 * (i % 4)) for i in range(16)])
    icon = icon.resize((192, 192), Image.Resampling.NEAREST)
    file = BytesIO()
    icon.save(file, "png")
    return file.getvalue()


def serve(source: Path, config: AppConfig, log: Log, shown: Callable[[str], None] | None = None) -> None:
    """Serve until Ctrl-C. `shown` gets the address.

    Raises ConfigError if a package or the port is missing, DeviceError for a device that cannot be used, SnapshotError
    or RunError for a source that cannot be read.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn
    except ImportError:
        raise ConfigError("the page needs Starlette and uvicorn: pip install '.[app]'") from None
    if config.device not in ("auto", "cpu"):  # which are always there: the page then opens without torch
        from progan.devices import find_device

        find_device(config.device)
    token = config.token or secrets.token_urlsafe(24)
    desk = Desk(Shelf(source.resolve()), config)
    listening = _listen(config)
    port = listening.getsockname()[1]
    name = config.host if config.host not in ("0.0.0.0", "::") else socket.gethostname()
    address = f"http://{f'[{name}]' if ':' in name else name}:{port}/?token={token}"
    log(f"{address}  (Ctrl-C ends it)")
    if not is_loopback(config.host):
        log(
            "note: other machines can reach it. Who has the address can see the runs and stop them; it is not encrypted"
        )
    if shown:
        shown(address)
    if hasattr(os, "nice"):  # a training on this machine goes first
        with contextlib.suppress(OSError):
            os.nice(5)
    settings = uvicorn.Config(
        application(desk, token, config.host),
        log_level="error",
        access_log=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=1,
        lifespan="off",
        proxy_headers=False,
    )
    ended = threading.Event()
    if config.open and is_loopback(config.host):
        threading.Thread(target=_open, args=[address, ended]).start()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(settings).run(sockets=[listening])
    finally:
        ended.set()


def _listen(config: AppConfig) -> socket.socket:
    """A socket at the port, or at the next that is free. Raises ConfigError."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    for port in [0] if config.port == 0 else range(config.port, min(config.port + 20, 65_536)):
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((config.host, port))
            made.listen(128)
        except OSError as error:
            made.close()
            problem = error
            continue
        return made
    raise ConfigError(
        f"cannot listen at {config.host}:{config.port}: {problem.strerror or problem}. Choose --host, --port"
    )


def _open(address: str, ended: threading.Event) -> None:
    """Open the page in the browser, by a file that leads to it and is there for a minute.

    Every user of a machine can read the command lines of its programs, and the address holds the token. The file lies
    in the home folder, since browsers in a sandbox do not see the folder of temporary files.
    """
    leads = f'<!doctype html><title>progan</title><meta http-equiv="refresh" content="0; url={html.escape(address)}">'
    with contextlib.suppress(Exception), tempfile.TemporaryDirectory(prefix="progan-", dir=Path.home()) as folder:
        file = Path(folder) / "open.html"
        file.touch(0o600)
        file.write_text(leads)
        if not ended.wait(0.5):  # until it is served
            webbrowser.open(file.as_uri())
            ended.wait(60)
