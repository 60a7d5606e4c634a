"""What comes in from the network before gradio sees it: for whom it is, where it is from, and how large.

A page that a visitor has open elsewhere must not speak for them here. A foreign name in `Host` (a name
that was bent to this address), a foreign `Origin`, and bodies larger than anything the page sends are
refused with a sentence.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from explorer.discretion import log_failure

Receive = Callable[[], Awaitable[dict[str, Any]]]
MOST_BYTES, MOST_UPLOAD_BYTES = 1_000_000, 21_000_000
UPLOADS_AN_HOUR = 1_000_000_000
"""Bytes of uploads that all visitors together may leave on the disk in an hour; they stay for a day."""


def fronts(environment: Mapping[str, str]) -> frozenset[str]:
    """Names that people put before this server: those of DRO_HOSTS, and the one that a Space has."""
    told = f"{environment.get('DRO_HOSTS', '')},{environment.get('SPACE_HOST', '')}".lower().split(",")
    return frozenset(name.strip() for name in told) - {""}


class Gate:
    """ASGI middleware around the whole page."""

    def __init__(self, app: Any, environment: Mapping[str, str] = os.environ) -> None:
        self._app = app
        self._fronts = fronts(environment)
        own = socket.gethostname().lower()
        self._hosts = frozenset({"localhost", own, f"{own}.local"}) | self._fronts
        self._uploads: deque[tuple[float, int]] = deque()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Any) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        upload = scope["path"].endswith("/upload")
        refused = self._refusal(headers, upload)
        if refused is not None:
            return await _answer(send, *refused)
        most = MOST_UPLOAD_BYTES if upload else MOST_BYTES
        begun = False

        async def noted(message: dict[str, Any]) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            return await self._app(scope, _bounded(receive, most), noted)
        except Exception as error:
            if begun:
                raise
            # What gradio does not foresee is mostly a name that is none.
            log_failure("a request was not understood", error)
            return await _answer(send, 400, "There is no such thing to ask for here.")

    def _refusal(self, headers: Mapping[str, str], upload: bool) -> tuple[int, str] | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._ours(_name(host)):
            return 421, "This server does not go by that name. Whoever runs it can add it to DRO_HOSTS."
        if origin is not None:
            told = urlsplit(origin) if origin.startswith(("http://", "https://")) else None
            # A proxy may have put another name into Host than the page was opened under.
            same = told is not None and told.netloc.lower() == host.lower()
            if not same and (told is None or _name(told.netloc) not in self._fronts):
                return 403, "Pages of other sites cannot ask this server."
        length = headers.get("content-length", "0")
        most = MOST_UPLOAD_BYTES if upload else MOST_BYTES
        size = int(length) if length.isascii() and length.isdigit() and len(length) < 15 else most + 1
        if size > most:
            return 413, f"That is too large: at most {most / 1e6:.0f} MB are read."
        if upload and not self._room_for(size):
            return 429, "Too much was uploaded in the last hour. Come back in an hour."
        return None

    def _ours(self, name: str) -> bool:
        """An address cannot be bent to another machine as a name can, so every address counts as ours."""
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True

    def _room_for(self, size: int) -> bool:
        now = time.monotonic()
        while self._uploads and now - self._uploads[0][0] > 3600:
            self._uploads.popleft()
        if sum(each for _, each in self._uploads) + size > UPLOADS_AN_HOUR:
            return False
        self._uploads.append((now, size))
        return True


def _name(netloc: str) -> str:
    """`host:port` without the port; the brackets of an IPv6 address go as well."""
    told = netloc.lower().rsplit("@", 1)[-1]
    if told.startswith("["):
        return told[1:].split("]")[0]
    return told.rsplit(":", 1)[0] if ":" in told else told


def _bounded(receive: Receive, most: int) -> Receive:
    """A body that never says how long it is ends where it is too long."""
    seen = 0

    async def bounded() -> dict[str, Any]:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if seen > most else message

    return bounded


async def _answer(send: Any, status: int, told: str) -> None:
    body = json.dumps({"detail": told}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
