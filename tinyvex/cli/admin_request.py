"""Send a request of HTTP to the running server with its admin token."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tinyvex.cli.session import CONNECT_SECONDS
from tinyvex.errors import ConnectionLost

if TYPE_CHECKING:
    from tinyvex.server.services.discovery import Discovery

__all__ = ["request_as_admin"]


def request_as_admin(server: Discovery, method: str, path: str) -> bytes:
    """
    Send a request without a body; return the body of the response.

    Raises:
        ConnectionLost: the server does not answer, or refuses.
        ServerUntrusted: the certificate is not the one in the discovery file.
    """
    head, _, body = asyncio.run(_respond(server, method, path)).partition(b"\r\n\r\n")
    status = head.partition(b"\r\n")[0].decode(errors="replace")
    if " 200 " not in status:
        raise ConnectionLost(f"the server at {server.url}, process {server.pid}, refused {method} {path}: `{status}`")
    return body


async def _respond(server: Discovery, method: str, path: str) -> bytes:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await _send(server, method, path)
    except (OSError, TimeoutError) as error:
        raise ConnectionLost(f"the server at {server.url}, process {server.pid}, does not answer") from error


async def _send(server: Discovery, method: str, path: str) -> bytes:
    """Send the request; return the response up to the end of the connection."""
    from tinyvex.client.server_verification import ServerVerification

    url = urlsplit(server.url)
    verification = ServerVerification(server.tls_fingerprint, secure=url.scheme == "wss")
    reader, writer = await asyncio.open_connection(url.hostname, url.port, ssl=verification.context)
    try:
        verification.check(writer.transport)
        head = [f"{method} {path} HTTP/1.1", f"Host: {url.netloc}", "Connection: close"]
        head.append(f"Authorization: Bearer {server.admin_token}")
        writer.write("".join(f"{line}\r\n" for line in [*head, ""]).encode())
        return await reader.read()
    finally:
        writer.transport.abort()  # the response is complete or unwanted: do not wait for TLS's closing handshake
        with suppress(OSError):
            await writer.wait_closed()
