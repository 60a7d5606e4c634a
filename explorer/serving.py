"""How the page is put on the network: queue, sessions, names, sizes and who may enter."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from dro.errors import DataError
from explorer.gate import Gate
from explorer.limits import Limits
from explorer.theme import CSS, HEAD, theme

_THREADS = 160
"""More than questions can wait at a time: what waits for the model must not keep pages from loading."""
_EVENTS = 256
"""Calls that gradio itself keeps waiting; ours are refused in words long before."""


def check_tools(accounts: Sequence[tuple[str, str]] | None) -> None:
    """Raise where the endpoints cannot be tools of the Model Context Protocol."""
    if find_spec("mcp") is None:
        raise DataError("--mcp needs a package.", "pip install -r requirements-mcp.txt")
    if accounts:
        # gradio asks for a name and a password before the page, not before its tools.
        raise DataError("--mcp would let in whom DRO_AUTH keeps out.", "Leave one of the two out.")


def launch(
    page: gr.Blocks,
    host: str,
    port: int,
    limits: Limits,
    accounts: list[tuple[str, str]] | None = None,
    tools: bool = False,
) -> None:
    """Serve `page` in the background until it is closed. tools: by the Model Context Protocol, too."""
    page.queue(api_open=False, max_size=_EVENTS)
    options: dict[str, Any] = {"middleware": [Middleware(Gate)]}
    page.launch(
        server_name=host, server_port=port, show_error=False, theme=theme(), css_paths=CSS,
        head=HEAD, run_history=False, enable_monitoring=False, max_file_size="20mb",
        prevent_thread_lock=True, app_kwargs=options, auth=accounts, max_threads=_THREADS, mcp_server=tools,
        state_session_capacity=limits.sessions, quiet=True,
    )  # fmt: skip
