"""The page as app.py serves it, in this process, on the tiny model; and a plain HTTP client for it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from conftest import random_space

from dro.data import QuerySet
from dro.models import load
from dro.space import cached_folder, save
from explorer.interface import build
from explorer.limits import OWN, Limits
from explorer.messages import visitor
from explorer.service import Service
from explorer.serving import launch


def tiny_service(folder: Path, anchors: QuerySet, limits: Limits = OWN) -> Service:
    """A service over the tiny model and a space of it, loaded and ready."""
    model = load(str(folder), "fp32")
    save(random_space(model, anchors), cached_folder(model))
    service = Service(str(folder), "fp32", limits, visitor)
    service.start_loading()
    deadline = time.monotonic() + 60
    while service.stage.kind != "ready":
        assert time.monotonic() < deadline, service.stage
        time.sleep(0.02)
    return service


@contextmanager
def served_here(service: Service, **options: Any) -> Iterator[str]:
    """The page's address; it is closed afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = build(service, "tiny", "fp32", options.get("tools", False))
    launch(page, "127.0.0.1", port, service.limits, **options)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        page.close(verbose=False)


def call(client: httpx.Client, name: str, data: list[Any] | None, body: bytes | None = None) -> Any:
    """What an endpoint answers, or its message in words: ("complete", data), ("error", message)."""
    sent = (
        client.post(f"/gradio_api/call/{name}", json={"data": data})
        if body is None
        else client.post(
            f"/gradio_api/call/{name}", content=body, headers={"content-type": "application/json"}
        )
    )
    if sent.status_code != 200:
        return "error", f"{sent.status_code} {sent.text}"
    last = None
    with client.stream("GET", f"/gradio_api/call/{name}/{sent.json()['event_id']}") as stream:
        event = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: "):
                told = json.loads(line[6:])
                if event == "generating":
                    last = told
                elif event in ("complete", "error"):
                    return event, told if told is not None else last
    return "error", "the stream ended"
