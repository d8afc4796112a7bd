"""A stand-in for the Hugging Face hub on this machine: the part of its API that an upload speaks.

It keeps files and commits, asks for a token, validates cards as far as their YAML goes, and can be told to fail.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import yaml

GOOD = "hf_a_token_of_the_tests"


@dataclass
class Hub:
    """What was uploaded. `fail_after`: file contents that are taken before every further one is answered 500."""

    url: str = ""
    private: dict[str, bool] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    commits: list[list[str]] = field(default_factory=list)
    validated: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    fail_after: int | None = None


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *given: Any) -> None:
            pass

        def _answer(self, status: int, value: object = None) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def do_GET(self) -> None:
            self._answer(200, {"id": "o/n", "sha": "0" * 40, "siblings": []})

        def do_PUT(self) -> None:
            content = self._body()
            if hub.fail_after is not None and len(hub.sent) >= hub.fail_after:
                return self._answer(403, {"error": "cut off"})
            oid = hashlib.sha256(content).hexdigest()
            assert self.path == f"/blobs/{oid}"
            hub.blobs[oid] = content
            hub.sent.append(oid)
            self._answer(200)

        def do_POST(self) -> None:
            body = self._body()
            path = self.path.partition("?")[0]
            if path == "/api/validate-yaml":
                return self._validate(json.loads(body)["content"])
            if self.headers.get("Authorization") != f"Bearer {GOOD}":
                return self._answer(401, {"error": "Invalid credentials"})
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked.get('organization') or 'me'}/{asked['name']}"
                if name in hub.private:
                    return self._answer(409, {"url": f"{hub.url}/{name}"})
                hub.private[name] = asked.get("visibility") == "private" or bool(asked.get("private"))
                return self._answer(200, {"url": f"{hub.url}/{name}"})
            if path.endswith("/preupload/main"):
                return self._answer(200, {"files": [self._mode(f) for f in json.loads(body)["files"]]})
            if path.endswith("/info/lfs/objects/batch"):
                return self._answer(200, {"objects": [self._object(o) for o in json.loads(body)["objects"]]})
            if path.endswith("/commit/main"):
                return self._commit([json.loads(line) for line in body.splitlines()])
            self._answer(404, {"error": path})

        def _validate(self, content: str) -> None:
            hub.validated.append(content)
            found = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
            data = yaml.safe_load(found[1]) if found else None
            if not isinstance(data, dict) or data.get("pipeline_tag") != "text-generation":
                return self._answer(400, {"errors": [{"message": "the metadata is not valid"}]})
            self._answer(200, {"errors": [], "warnings": []})

        def _mode(self, file: dict[str, Any]) -> dict[str, Any]:
            large = file["path"].endswith(".safetensors")
            held = hub.files.get(file["path"])
            oid = None if held is None else _sha256(held) if large else _blob(held)
            return {
                "path": file["path"],
                "uploadMode": "lfs" if large else "regular",
                "shouldIgnore": False,
                "oid": oid,
            }

        def _object(self, asked: dict[str, Any]) -> dict[str, Any]:
            if asked["oid"] in hub.blobs:
                return asked
            return asked | {"actions": {"upload": {"href": f"{hub.url}/blobs/{asked['oid']}"}}}

        def _commit(self, lines: list[dict[str, Any]]) -> None:
            names = []
            for line in lines[1:]:
                value = line["value"]
                names.append(value["path"])
                hub.files[value["path"]] = (
                    base64.b64decode(value["content"]) if line["key"] == "file" else hub.blobs[value["oid"]]
                )
            hub.commits.append(names)
            self._answer(200, {"commitUrl": f"{hub.url}/me/r/commit/{'1' * 40}", "commitOid": "1" * 40})

    return Handler


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _blob(content: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
