"""Who may ask the server what, and how much: a layer around it that every request passes.

- The Host must be an address of this machine (a name that an attacker's DNS points here is refused).
- Requests that another site's page makes are refused (Sec-Fetch-Site), but for following a link.
- Beyond this machine everything wants the token. What changes something, a POST, wants it everywhere, and the page's
  own Origin. The token comes once in the address, and from then on in a cookie that scripts cannot read and that other
  sites do not send.
- Bodies and addresses have a limit.
"""

import hmac
import ipaddress
import json
import socket
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

Scope = dict[str, Any]

LARGEST_BODY, LARGEST_ADDRESS = 20 * 2**20, 8192
"""Bytes of a request's body (a picture) and of its address."""
HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}
"""Headers of every answer that does not have its own."""


def is_loopback(host: str) -> bool:
    """True for an address or name of this machine that no other can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class TooLargeError(Exception):
    """A body above the limit."""


class Guard:
    """ASGI application around another one."""

    def __init__(self, app: Any, token: str, host: str) -> None:
        self._app, self._token, self._alone = app, token, is_loopback(host)
        self._names = {"localhost", host.lower()} | (set() if self._alone else {socket.gethostname().lower()})

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        scope["progan.token"] = self._knows(scope, headers)
        if (refused := self._refused(scope, headers)) is not None:
            await answer(send, *refused)
            return
        if scope["method"] == "GET" and (again := self._entered(scope, headers)) is not None:
            await answer(send, 303, "", again)
            return

        done = 0

        async def counted() -> Any:
            nonlocal done
            message = await receive()
            done += len(message.get("body", b""))
            if done > LARGEST_BODY:
                raise TooLargeError
            return message

        began = False

        async def with_headers(message: Any) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                own = {name.lower() for name, _ in message["headers"]}
                more = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in own]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        try:
            await self._app(scope, counted, with_headers)
        except TooLargeError:
            if not began:
                await answer(send, 413, f"at most {LARGEST_BODY // 2**20} MB can be sent")

    def _refused(self, scope: Scope, headers: dict[str, list[str]]) -> tuple[int, str] | None:
        """Code and reason, if a request is refused."""
        method, hosts = scope["method"], headers.get("host", [])
        if method not in ("GET", "HEAD", "POST"):
            return 405, "there is nothing of that kind here"
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > LARGEST_ADDRESS:
            return 414, "the address is too long"
        if len(hosts) != 1 or not self._ours(hosts[0]):
            return 421, "this server has another address: open the one that progan printed"
        site, mode = headers.get("sec-fetch-site", ["none"])[-1], headers.get("sec-fetch-mode", [""])[-1]
        followed = method == "GET" and mode == "navigate" and headers.get("sec-fetch-dest") == ["document"]
        if site not in ("none", "same-origin") and not followed:
            return 403, "another site's page asked for this"
        if not self._alone and not scope["progan.token"]:
            return 403, "open the address that progan printed: it holds a token"
        if method == "POST":
            if not scope["progan.token"]:
                return 403, "this needs the token: open the address that progan printed"
            origins = headers.get("origin", [])
            if len(origins) != 1 or origins[0] not in (f"http://{hosts[0]}", f"https://{hosts[0]}"):
                return 403, "another site's page asked for this"
            length = headers.get("content-length", ["0"])[-1]
            if not length.isdecimal() or int(length[:12]) > LARGEST_BODY or len(length) > 12:
                return 413, f"at most {LARGEST_BODY // 2**20} MB can be sent"
        return None

    def _ours(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name, _ = parts.hostname or "", parts.port  # ValueError if it is no number
        except ValueError:
            return False
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name in self._names and "@" not in host
        # DNS cannot lead an address elsewhere.
        return address.is_loopback if self._alone else True

    def _knows(self, scope: Scope, headers: dict[str, list[str]]) -> bool:
        """True for a request that has the token, in its address or in its cookie."""
        given = [value for name, value in self._query(scope) if name == "token"]
        # By hand: browsers send the cookies of all programs of a machine, and http.cookies gives up at odd ones.
        for pair in ";".join(headers.get("cookie", [])).split(";"):
            name, _, value = pair.partition("=")
            if name.strip() == self._cookie(scope):
                given.append(value.strip().strip('"'))
        return any(hmac.compare_digest(each.encode(), self._token.encode()) for each in given)

    def _entered(self, scope: Scope, headers: dict[str, list[str]]) -> dict[str, str] | None:
        """Headers that lead to the page without the token in its address, which history and links would keep."""
        query = self._query(scope)
        rest = [(name, value) for name, value in query if name != "token"]
        if scope["path"] != "/" or not scope["progan.token"] or len(rest) == len(query):
            return None
        cookie = f"{self._cookie(scope)}={self._token}; HttpOnly; SameSite=Strict; Path=/"
        return {
            "location": f"./?{urlencode(rest)}" if rest else "./",
            "set-cookie": cookie,
            "cache-control": "no-store",
        }

    def _query(self, scope: Scope) -> list[tuple[str, str]]:
        try:
            return parse_qsl(scope["query_string"].decode("latin-1"), max_num_fields=50, errors="replace")
        except ValueError:
            return []

    def _cookie(self, scope: Scope) -> str:
        """Name of the cookie: browsers do not tell the ports of a machine apart."""
        return f"progan-{(scope.get('server') or ('', 0))[1]}"


async def answer(send: Any, code: int, error: str, headers: dict[str, str] | None = None) -> None:
    """Send a whole answer with an error in JSON."""
    given = {"content-type": "application/json", **HEADERS, **(headers or {})}
    body = json.dumps({"error": error}).encode() if error else b""
    listed = [(name.encode(), value.encode()) for name, value in given.items()]
    listed.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": code, "headers": listed})
    await send({"type": "http.response.body", "body": body})
