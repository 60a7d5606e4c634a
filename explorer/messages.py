"""Errors of the library as messages on the page; nothing else reaches a visitor, or the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from dro.errors import DroError
from explorer import text
from explorer.discretion import discreet, log_failure
from explorer.turns import Visitor


@contextmanager
def shown(page: bool = True) -> Iterator[None]:
    """Turn a DroError into a message, anything unforeseen into a short one and a log entry.

    page: the message is drawn as html, where what a visitor typed must stay text; programs get it plain.
    """
    try:
        yield
    except (gr.Error, GeneratorExit):
        raise
    except DroError as error:
        told = discreet(str(error))
        raise gr.Error(as_text(told) if page else told, print_exception=False) from None
    except Exception as error:
        log_failure("a request failed", error)
        raise gr.Error(text.UNEXPECTED, print_exception=False) from None


def as_text(told: str) -> str:
    """`told` for a place that reads html, markup shown as text; quotes stay as they are."""
    return told.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def visitor() -> Visitor:
    """Who asks, as gradio knows it: an address and a page (or a program's session)."""
    from gradio.context import LocalContext

    request = LocalContext.request.get(None)
    client = getattr(request, "client", None)
    return Visitor(str(getattr(client, "host", "") or ""), str(getattr(request, "session_hash", "") or ""))
