"""Plain HTTP for the peers that use it: prepared requests, a writer, and a slow call for unmeasured requests."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any

from bench.peers.connection import PreparedWriter

__all__ = ["HttpWriter", "ask", "post"]

_LENGTH = b"content-length: "


def post(path: str, body: object, headers: Mapping[str, str] | None = None) -> bytes:
    """Build a request with a JSON body."""
    payload = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    lines = {"Host": "127.0.0.1", "Content-Type": "application/json", **(headers or {}), "Content-Length": len(payload)}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + payload


def ask(port: int, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Any:
    """Send one request outside of any measurement; return its decoded JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        payload = None if body is None else json.dumps(body)
        connection.request(method, path, payload, {"Content-Type": "application/json", **(headers or {})})
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    assert response.status < 300, answer
    return json.loads(answer or b"{}")


class HttpWriter(PreparedWriter):
    """A persistent connection; bodies have a length."""

    def __init__(self) -> None:
        super().__init__()
        self._rest = b""

    def answers(self, data: bytes) -> int:
        data = self._rest + data if self._rest else data
        finished = start = 0
        while (end := data.find(b"\r\n\r\n", start)) >= 0:
            if not data.startswith(b"HTTP/1.1 20", start):
                raise RuntimeError(data[start:].decode())
            head = data[start:end].lower()
            length = head.find(_LENGTH)
            size = int(head[length + len(_LENGTH) :].split(b"\r", 1)[0]) if length >= 0 else 0
            if end + 4 + size > len(data):
                break
            start = end + 4 + size
            finished += 1
        self._rest = data[start:]
        return finished
