"""The address of a client, and the network by which clients without a token are counted."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import BaseTransport

__all__ = ["address_of", "network_of"]

_MAPPED = bytes(10) + b"\xff\xff"  # an IPv4 address in an IPv6 one
_NETWORK_BYTES = 8


def address_of(transport: BaseTransport) -> str:
    """Return the client's IP address; empty if the transport has none."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""


def network_of(address: str) -> str:
    """
    Return the network to which an address is counted: an IPv4 address itself, the /64 of an IPv6 address. (pure)

    One machine has all addresses of a /64 at its disposal.
    """
    try:
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except OSError:
        return address
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[len(_MAPPED) :])
    return f"{socket.inet_ntop(socket.AF_INET6, packed[:_NETWORK_BYTES] + bytes(_NETWORK_BYTES))}/64"
