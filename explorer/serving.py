"""How the page is put on the network: queue, sessions, names, sizes and who may enter."""

from __future__ import annotations

from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from explorer.gate import Gate
from explorer.limits import Limits
from explorer.theme import CSS, HEAD, theme

_THREADS = 160
"""More than questions can wait at a time: what waits for the model must not keep pages from loading."""
_EVENTS = 256
"""Calls that gradio itself keeps waiting; ours are refused in words long before."""


def launch(
    page: gr.Blocks, host: str, port: int, limits: Limits, accounts: list[tuple[str, str]] | None = None
) -> None:
    """Serve `page` in the background until it is closed."""
    page.queue(api_open=False, max_size=_EVENTS)
    options: dict[str, Any] = {"middleware": [Middleware(Gate)]}
    page.launch(
        server_name=host, server_port=port, show_error=False, theme=theme(), css_paths=CSS,
        head=HEAD, run_history=False, enable_monitoring=False, max_file_size="20mb",
        prevent_thread_lock=True, app_kwargs=options, auth=accounts, max_threads=_THREADS,
        state_session_capacity=limits.sessions, quiet=True,
    )  # fmt: skip
