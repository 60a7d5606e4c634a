"""Errors of the library as messages on the page; nothing else reaches a visitor."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from dro.errors import DroError
from explorer import text


@contextmanager
def shown() -> Iterator[None]:
    """Turn a DroError into a message on the page, anything unforeseen into a short one and a log entry."""
    try:
        yield
    except (gr.Error, GeneratorExit):
        raise
    except DroError as error:
        raise gr.Error(str(error), print_exception=False) from None
    except Exception:
        logging.getLogger(__name__).exception("a request failed")
        raise gr.Error(text.UNEXPECTED, print_exception=False) from None
