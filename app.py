"""DRO Explorer: `python app.py` serves the page. Options, build, launch; nothing else."""

import argparse
import os
import socket
import threading

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
    from explorer.interface import build
    from explorer.service import Service
    from explorer.theme import CSS, HEAD, theme

    try:
        service = Service(asked.model, asked.precision)
    except DroError as error:
        raise SystemExit(str(error)) from None
    page = build(service, asked.model, asked.precision).queue(api_open=False, max_size=64)
    _check_free(asked.host, asked.port)
    page.launch(
        server_name=asked.host, server_port=asked.port, show_error=False, theme=theme(), css_paths=CSS,
        head=HEAD, run_history=False, enable_monitoring=False, max_file_size="20mb", prevent_thread_lock=True,
    )  # fmt: skip
    # A moment later: loading takes both cores, and the first page wants to be drawn.
    threading.Timer(3.0, service.start_loading).start()
    page.block_thread()


if __name__ == "__main__":
    main()
