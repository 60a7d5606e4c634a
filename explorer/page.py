"""gr.Blocks whose failures are told in a sentence and logged without what was sent."""

from __future__ import annotations

from typing import Any

import gradio as gr

from explorer import text
from explorer.discretion import log_failure


class Page(gr.Blocks):
    """gradio prints whatever goes wrong before a handler is reached, inputs included; this page does not."""

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """One call, as gradio makes it."""
        try:
            return await super().process_api(*args, **kwargs)
        except gr.Error as error:
            error.print_exception = False
            raise
        except Exception as error:
            if isinstance(error, ValueError) and "enough input values" in str(error):
                raise gr.Error(text.TOO_FEW, print_exception=False) from None
            log_failure("a request failed", error)
            raise gr.Error(text.UNEXPECTED, print_exception=False) from None
