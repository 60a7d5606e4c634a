"""How events of the page are wired: none is an endpoint for programs, none shows gradio's own progress."""

from __future__ import annotations

from typing import Any

PRIVATE: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
QUICK: dict[str, Any] = {"queue": False, **PRIVATE}
"""For what needs no turn at the model: it never waits behind what does."""
