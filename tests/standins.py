"""Servers on this machine that stand in for those elsewhere: the Hub, a chat server, vLLM."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

Answer = tuple[int, Any, dict[str, str]]
Handle = Callable[[str, str, bytes, dict[str, str]], Answer]


@contextmanager
def listening(handle: Handle) -> Iterator[str]:
    """A server on a free port of 127.0.0.1: its address. handle: (method, path, body, headers) → answer."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {k.lower(): v for k, v in self.headers.items()}
            status, content, more = handle(self.command, self.path, body, headers)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_HEAD = _do  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Hub:
    """What the Hub does for a model repository: create, upload (plain and large files), info, download."""

    token: str
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""
    COMMIT = "0123456789" * 4

    def __call__(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        path = path.split("?")[0]
        self.asked.append(f"{method} {path}")
        if path.startswith("/blob/"):
            self.blobs[path.removeprefix("/blob/")] = body
            return 200, {}, {}
        if headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"error": "Invalid credentials"}, {"X-Error-Message": "Invalid credentials"}
        if path == "/api/repos/create":
            told = json.loads(body)
            name = f"{told['organization']}/{told['name']}" if told.get("organization") else told["name"]
            if name in self.files:
                return 409, {"error": "exists", "url": f"{self.url}/{name}"}, {}
            self.files[name], self.private[name] = (
                {},
                told.get("private") or told.get("visibility") == "private",
            )
            return 200, {"url": f"{self.url}/{name}", "name": name}, {}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}, {}
        name = "/".join(path.removeprefix("/api/models/").strip("/").split("/")[:2]).removesuffix(".git")
        if name not in self.files:
            return 404, {"error": "not found"}, {"X-Error-Code": "RepoNotFound"}
        return self._repository(name, path, body)

    def _repository(self, name: str, path: str, body: bytes) -> Answer:
        files = self.files[name]
        if "/preupload/" in path:
            modes = [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                 "shouldIgnore": False, "oid": None}
                for f in json.loads(body)["files"]
            ]  # fmt: skip
            return 200, {"files": modes}, {}
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**o, "actions": {"upload": {"href": f"{self.url}/blob/{o['oid']}", "header": {}}}}
                for o in json.loads(body)["objects"]
            ]
            return 200, {"transfer": "basic", "objects": objects}, {}
        if "/commit/" in path:
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                if line["key"] == "lfsFile":
                    files[value["path"]] = self.blobs[value["oid"]]
            return 200, {"commitUrl": f"{self.url}/{name}/commit/{self.COMMIT}", "commitOid": self.COMMIT}, {}
        if "/resolve/" in path:
            content = files.get(path.split("/resolve/")[1].split("/", 1)[1])
            if content is None:
                return 404, {}, {"X-Error-Code": "EntryNotFound"}
            etag = hashlib.sha256(content).hexdigest()
            return 200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": self.COMMIT}
        siblings = [{"rfilename": path, "size": len(content)} for path, content in files.items()]
        return 200, {"id": name, "sha": self.COMMIT, "siblings": siblings, "private": True, "tags": []}, {}


@contextmanager
def hub(token: str) -> Iterator[Hub]:
    """A Hub that takes one token; `url` is for HF_ENDPOINT."""
    made = Hub(token)
    with listening(made) as url:
        made.url = url
        yield made


class Embeds:
    """What vLLM's documentation says of prompt embeddings, over a plain model and its own template.

    Completions take a whole sequence; in chat, one part of a message is replaced by the tensor's rows.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.sequences: list[torch.Tensor] = []

    def __call__(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        told = json.loads(body)
        assert told["temperature"] == 0
        if path.endswith("/chat/completions"):
            said = self._answer(self._chat(told["messages"]), told["max_tokens"])
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
            return 200, _completion("chat.completion", choice), {"Content-Type": "application/json"}
        assert path.endswith("/completions") and told["prompt"] == ""
        said = self._answer(_tensor(told["prompt_embeds"]), told["max_tokens"])
        choice = {"index": 0, "finish_reason": "stop", "text": said}
        return 200, _completion("text_completion", choice), {"Content-Type": "application/json"}

    def _chat(self, messages: list[dict[str, Any]]) -> torch.Tensor:
        system, user = messages
        [part] = system["content"]
        assert system["role"] == "system" and part["type"] == "prompt_embeds"
        place = "<|placeholder|>"
        turns = [{"role": "system", "content": place}, user]
        text = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        before, after = (self._embed(piece) for piece in text.split(place))
        return torch.cat([before, _tensor(part["data"]), after])

    def _embed(self, text: str) -> torch.Tensor:
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self.model.get_input_embeddings()(torch.tensor(ids)).detach()

    def _answer(self, rows: torch.Tensor, longest: int) -> str:
        assert rows.dim() == 2 and rows.dtype == self.model.dtype
        self.sequences.append(rows)
        said = self.model.generate(
            inputs_embeds=rows[None], attention_mask=torch.ones(1, len(rows)), max_new_tokens=longest,
            do_sample=False, eos_token_id=self.tokenizer.eos_token_id,
        )  # fmt: skip
        return self.tokenizer.decode(said[0], skip_special_tokens=True)


def _tensor(encoded: str) -> torch.Tensor:
    return torch.load(io.BytesIO(base64.b64decode(encoded)), weights_only=True)


def _completion(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {"id": "1", "object": kind, "created": 0, "model": "m", "choices": [choice]}
