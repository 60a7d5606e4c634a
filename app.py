"""DRO Explorer: `python app.py` serves the page. Options, build, launch; nothing else."""

import argparse
import os
import socket
import threading
import time

# Before gradio is imported: it would call out otherwise.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


def options() -> argparse.Namespace:
    """What was asked for on the command line and in the environment."""
    parser = argparse.ArgumentParser(description="Serve DRO Explorer in a browser.")
    parser.add_argument("--model", default="qwen2.5-coder-0.5b", help="a name of `python -m dro models`, "
                        "a hub id, a folder, or a .gguf file (default: %(default)s)")  # fmt: skip
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32", "4bit"), default="auto")
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=os.environ.get("GRADIO_SERVER_PORT", "7860"))
    parser.add_argument("--classroom", action="store_true", help="limits for many visitors on one machine: "
                        "short runs, small evaluations, one model; hides what costs more")  # fmt: skip
    parser.add_argument("--public", action="store_true", help="narrower still, for an open page; visitors "
                        "load only the models named in DRO_MODELS")  # fmt: skip
    parser.add_argument("--mcp", action="store_true", help="offer locate, answer and evaluate as tools "
                        "(MCP) at /gradio_api/mcp/; needs pip install -r requirements-mcp.txt")  # fmt: skip
    return parser.parse_args()


def _check_free(host: str, port: int) -> None:
    """Say so in a sentence where something else listens already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise SystemExit(f"{host}:{port} cannot be used ({error}). Choose another: --port N") from None


def main() -> None:
    """Serve until interrupted."""
    asked = options()
    from dro.errors import DroError
    from explorer import gpu, limits
    from explorer.interface import build
    from explorer.messages import visitor
    from explorer.service import Service
    from explorer.serving import check_tools, launch

    try:
        chosen, accounts = limits.chosen(asked.classroom, asked.public), limits.accounts()
        if asked.mcp:
            check_tools(accounts)
        service = Service(asked.model, asked.precision, chosen, visitor)
    except DroError as error:
        raise SystemExit(str(error)) from None
    page = build(service, asked.model, asked.precision, asked.mcp)
    _check_free(asked.host, asked.port)
    if gpu.LENT:
        # A lent GPU is given the weights that are there when the page is launched.
        service.start_loading()
        while not service.settled:
            time.sleep(0.1)
    launch(page, asked.host, asked.port, chosen, accounts, asked.mcp)
    print(f"DRO Explorer is on http://{asked.host}:{asked.port}", flush=True)
    if not gpu.LENT:
        # A moment later: loading takes both cores, and the first page wants to be drawn.
        threading.Timer(3.0, service.start_loading).start()
    page.block_thread()


if __name__ == "__main__":
    main()
