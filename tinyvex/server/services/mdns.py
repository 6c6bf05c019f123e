"""
Finding servers on the local network: DNS-SD over multicast DNS (RFC 6763, RFC 6762), only on request.

A server announces `NAME._tinyvex._tcp.local.` with its port and, in TXT:

======== ==========================================================================
path     where the WebSocket is: `/sync`
db       the database's id: the same server under another address has the same one
tls      the certificate's fingerprint, `sha256:…`; missing where there is no TLS
======== ==========================================================================

Never a token. Whoever is on the network can announce anything:
a fingerprint found so says which server one talks to next time, not that it was the right one the first time.

`zeroconf` speaks the protocol; it is an extra, and imported when it is used.
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
from tinyvex.server.transport.listener import WILDCARDS

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncServiceInfo

    from tinyvex.server.options import ServerOptions
    from tinyvex.server.transport.listener import PortListener
    from tinyvex.storage.engine.store import Store

__all__ = ["FoundServer", "advertise", "browse", "require_zeroconf"]

log = logging.getLogger("tinyvex.server")

SERVICE = "_tinyvex._tcp.local."
PATH = "/sync"
NAME_BYTES_MAX = 63  # RFC 6763, 4.1.1

_PATH = re.compile(r"/[\w./~-]*", re.ASCII)
_FINGERPRINT = re.compile(r"(sha256:[0-9a-f]{64})?")


class FoundServer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A server that announced itself; all of it is what it says of itself."""

    name: str
    """Free text: to be shown with care."""
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
    See that the library is installed, without importing it.

    Raises:
        StartError: it is not.
    """
    if find_spec("zeroconf") is None:
        raise StartError("finding servers on the local network needs zeroconf: pip install 'tinyvex[lan]'")


async def advertise(server: AdvertisedServer, name: str) -> None:
    """
    Announce a server until cancelled, which says goodbye.

    What the network does not allow is logged, and the server serves on.
    """
    from zeroconf import Error, InterfaceChoice
    from zeroconf.asyncio import AsyncZeroconf

    host = server.options.host
    try:
        zeroconf = AsyncZeroconf(interfaces=["127.0.0.1"] if is_loopback(host) else InterfaceChoice.All)
    except (OSError, Error) as error:
        log.warning("not announced: multicast DNS does not work here: %s", error)
        return
    try:
        info = _service(server, name, await _addresses(host))
        await (await zeroconf.async_register_service(info, allow_name_change=True))
        log.info("announced as %s", info.name.removesuffix(f".{SERVICE}"))
        while True:
            await server.listening.replaced.wait()
            server.listening.replaced.clear()
            info = _service(server, info.name.removesuffix(f".{SERVICE}"), await _addresses(host))
            await (await zeroconf.async_update_service(info))
    except (OSError, Error) as error:
        log.warning("not announced any more: %s", str(error) or type(error).__name__)
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(limits.CLOSE_SECONDS):
            await zeroconf.async_unregister_all_services()
            await zeroconf.async_close()


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
        server=f"tinyvex-{database_id[:16]}.local.",  # a name of its own: the machine's is another responder's to announce
    )


async def _addresses(host: str) -> list[str]:
    """Under which addresses others reach a server that listens on `host`; a name is looked up beside the loop."""
    if host not in WILDCARDS:
        loop = asyncio.get_running_loop()
        return sorted({str(found[4][0]) for found in await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
    import ifaddr  # which zeroconf brings

    texts = [ip.ip if isinstance(ip.ip, str) else ip.ip[0] for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    wanted = [text for text in texts if (":" in text) == (host == "::") or host == ""]
    return [text for text in wanted if not is_loopback(text) and not text.startswith("fe80:")]


async def browse(seconds: float) -> list[FoundServer]:
    """
    The servers that announce themselves within some seconds, by name.

    Raises:
        StartError: zeroconf is not installed.
        OSError: there is no network that multicasts.
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
        found = await asyncio.gather(*(_look_up(zeroconf, name) for name in list(names)))
        await browser.async_cancel()
    finally:
        await zeroconf.async_close()
    return sorted((server for server in found if server is not None), key=lambda server: server.name)


async def _look_up(zeroconf: Any, name: str) -> FoundServer | None:
    """What a service says of itself; None when it says nothing that makes sense."""
    from zeroconf.asyncio import AsyncServiceInfo

    info = AsyncServiceInfo(SERVICE, name)
    if not await info.async_request(zeroconf.zeroconf, limits.BROWSE_ANSWER_SECONDS * 1000):
        return None
    properties = info.decoded_properties  # what is no UTF-8 is None in here
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
