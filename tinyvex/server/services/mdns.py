"""
Find servers on the local network: DNS-SD over multicast DNS (RFC 6763, RFC 6762).

A server that was asked to announces `NAME._tinyvex._tcp.local.` with its port and, in TXT:

======== =================================================================================
path     the path of the WebSocket, `/sync`
db       the database id, by which a client recognises a server under another address
tls      the certificate's fingerprint, `sha256:…`; missing without TLS
======== =================================================================================

It never announces a token. Any machine on the network can announce anything: a fingerprint found here lets a client
recognise the same server the next time, but does not prove which server it was the first time.

`zeroconf` implements the protocol. It is an optional extra, imported when it is used.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import msgspec

from tinyvex import limits
from tinyvex.errors import StartError
from tinyvex.server.access.origin_rules import is_loopback
from tinyvex.server.services.background_service import BackgroundService, ServiceFailed
from tinyvex.server.transport.listener import WILDCARDS

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

    from tinyvex.server.options import ServerOptions
    from tinyvex.server.transport.listener import PortListener
    from tinyvex.storage.engine.store import Store

__all__ = ["FoundServer", "MdnsAdvertising", "browse", "require_zeroconf"]

log = logging.getLogger("tinyvex.server")

SERVICE = "_tinyvex._tcp.local."
PATH = "/sync"
NAME_BYTES_MAX = 63  # RFC 6763, 4.1.1

_PATH = re.compile(r"/[\w./~-]*", re.ASCII)
_FINGERPRINT = re.compile(r"(sha256:[0-9a-f]{64})?")


class FoundServer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The announcement of a server, unverified."""

    name: str
    """Free text; escape it before showing it in a terminal."""
    url: str
    addresses: list[str]
    database_id: str
    tls_fingerprint: str | None


class AdvertisedServer(Protocol):
    """The parts of a server that an announcement describes."""

    options: ServerOptions
    listening: PortListener
    store: Store

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        ...


def require_zeroconf() -> None:
    """
    Check that the library is installed, without importing it.

    Raises:
        StartError: the library is not installed.
    """
    if find_spec("zeroconf") is None:
        raise StartError("finding servers on the local network needs `zeroconf`: pip install 'tinyvex[lan]'")


class MdnsAdvertising(BackgroundService):
    """
    Announces a server until stopped, and then withdraws the announcement.

    Args:
        server: the server; listening when the service starts.
        name: the name to announce; the machine's name if empty.

    Raises:
        StartError: `zeroconf` is not installed.
    """

    name = "mdns"

    def __init__(self, server: AdvertisedServer, name: str) -> None:
        require_zeroconf()
        super().__init__()
        self._server = server
        self._announced_name = name or socket.gethostname()

    async def run(self) -> None:
        """
        Announce the server, and again whenever its certificate is replaced.

        Raises:
            ServiceFailed: the network does not allow it.
        """
        from zeroconf import Error, InterfaceChoice
        from zeroconf.asyncio import AsyncZeroconf

        host = self._server.options.host
        try:
            zeroconf = AsyncZeroconf(interfaces=["127.0.0.1"] if is_loopback(host) else InterfaceChoice.All)
        except (OSError, Error) as error:
            raise ServiceFailed(f"not announced: multicast DNS does not work on this network: {error}") from error
        try:
            await self._announce(zeroconf)
        except (OSError, Error) as error:
            raise ServiceFailed(f"no longer announced: {str(error) or type(error).__name__}") from error
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(limits.CLOSE_SECONDS):
                await zeroconf.async_unregister_all_services()
                await zeroconf.async_close()

    async def _announce(self, zeroconf: AsyncZeroconf) -> None:
        server = self._server
        info = _service(server, self._announced_name, await _addresses(server.options.host))
        await (await zeroconf.async_register_service(info, allow_name_change=True))
        name = info.name.removesuffix(f".{SERVICE}")
        log.info("announced as %s", name)
        self.report_ok()
        while True:
            await server.listening.replaced.wait()
            server.listening.replaced.clear()
            await (await zeroconf.async_update_service(_service(server, name, await _addresses(server.options.host))))


def _service(server: AdvertisedServer, name: str, addresses: list[str]) -> AsyncServiceInfo:
    from zeroconf.asyncio import AsyncServiceInfo

    database_id = server.store.database_id
    properties = {"path": PATH, "db": database_id}
    if server.listening.fingerprint is not None:
        properties["tls"] = server.listening.fingerprint
    return AsyncServiceInfo(
        SERVICE,
        f"{name.encode()[:NAME_BYTES_MAX].decode(errors='ignore')}.{SERVICE}",
        port=server.port,
        properties=properties,
        parsed_addresses=addresses,
        server=f"tinyvex-{database_id[:16]}.local.",  # not the machine's own name, which another responder may announce
    )


async def _addresses(host: str) -> list[str]:
    """Return the addresses at which other machines reach a server that listens on `host`; does not block the loop."""
    if host not in WILDCARDS:
        loop = asyncio.get_running_loop()
        return sorted({str(entry[4][0]) for entry in await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
    import ifaddr  # a dependency of zeroconf

    texts = [ip.ip if isinstance(ip.ip, str) else ip.ip[0] for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    wanted = [text for text in texts if (":" in text) == (host == "::") or host == ""]
    return [text for text in wanted if not is_loopback(text) and not text.startswith("fe80:")]


async def browse(seconds: float) -> list[FoundServer]:
    """
    Return the servers that announce themselves within `seconds`, by name.

    Raises:
        StartError: `zeroconf` is not installed.
        OSError: no network interface supports multicast.
    """
    require_zeroconf()
    from zeroconf import InterfaceChoice
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

    names: dict[str, None] = {}

    def changed(*, name: str, state_change: Any, **_: Any) -> None:
        if state_change.name == "Removed":
            names.pop(name, None)
        elif len(names) < limits.BROWSED_SERVERS_MAX:
            names[name] = None

    zeroconf = AsyncZeroconf(interfaces=InterfaceChoice.All)
    try:
        browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[changed])
        await asyncio.sleep(seconds)
        answers = await asyncio.gather(*(_look_up(zeroconf, name) for name in list(names)))
        await browser.async_cancel()
    finally:
        await zeroconf.async_close()
    return sorted((server for server in answers if server is not None), key=lambda server: server.name)


async def _look_up(zeroconf: Any, name: str) -> FoundServer | None:
    """Ask a service for its announcement; None if it does not answer in time or its answer is not a valid one."""
    from zeroconf.asyncio import AsyncServiceInfo

    info = AsyncServiceInfo(SERVICE, name)
    if not await info.async_request(zeroconf.zeroconf, limits.BROWSE_ANSWER_SECONDS * 1000):
        return None
    properties = info.decoded_properties  # a value that is not UTF-8 is None here
    addresses = info.parsed_scoped_addresses()
    path, fingerprint = properties.get("path") or PATH, properties.get("tls")
    if not addresses or not info.port or not _PATH.fullmatch(path) or not _FINGERPRINT.fullmatch(fingerprint or ""):
        return None
    host = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
    return FoundServer(
        name=name.removesuffix(f".{SERVICE}"),
        url=f"{'ws' if fingerprint is None else 'wss'}://{host}:{info.port}{path}",
        addresses=addresses,
        database_id=properties.get("db") or "",
        tls_fingerprint=fingerprint,
    )
