"""
Sockets whose client has not been admitted: few, together and for each address.

A client is a stranger from the acceptance of its socket until `tinyvex/connect` succeeds, or until an HTTP request has a
valid token: in its TLS handshake, before its first byte, as an HTTP connection, as a WebSocket. Whatever it is in, it
counts here, so a stranger cannot hold more by holding it in another state.

Programs of this machine have a bound of their own, without one for each address. They all have the same address, and so
has a reverse proxy; after a restart, thousands may reconnect together.

At a bound, the oldest stranger of the address with the most is closed. Not the newest: an attacker holds sockets open, a
real client is admitted in milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyvex import limits
from tinyvex.server.access.origin_rules import is_loopback
from tinyvex.server.access.peer_address import address_of, network_of

if TYPE_CHECKING:
    from asyncio import BaseTransport, Transport

__all__ = ["Strangers", "socket_of"]

_LOCAL = ""
"""The network of all programs of this machine."""


class Strangers:
    """The sockets of strangers, oldest first for each network."""

    def __init__(self) -> None:
        self._by_network: dict[str, dict[Transport, None]] = {}
        self._networks: dict[Transport, str] = {}

    def __len__(self) -> int:
        return len(self._networks)

    def add(self, socket: Transport) -> None:
        """Count a socket, and close another if there are too many."""
        if socket in self._networks:
            return  # it was counted from its TLS handshake on
        network = _network(address_of(socket))
        self._networks[socket] = network
        self._by_network.setdefault(network, {})[socket] = None
        excess = self._network_with_excess(network)
        if excess is not None:
            oldest = next(iter(self._by_network[excess]))
            self.remove(oldest)
            oldest.abort()

    def remove(self, socket: Transport) -> None:
        """Count a socket no longer: its client is admitted, or it is closed."""
        network = self._networks.pop(socket, None)
        if network is not None:
            sockets = self._by_network[network]
            del sockets[socket]
            if not sockets:
                del self._by_network[network]

    def _network_with_excess(self, network: str) -> str | None:
        """Return the network that loses a socket after one of `network` was added; None if none does."""
        count = len(self._by_network[network])
        if network == _LOCAL:
            return network if count > limits.STRANGERS_LOCAL_MAX else None
        if count > limits.STRANGERS_PER_NETWORK_MAX:
            return network
        remote = {name: sockets for name, sockets in self._by_network.items() if name != _LOCAL}
        if sum(map(len, remote.values())) <= limits.STRANGERS_MAX:
            return None
        return max(remote, key=lambda name: len(remote[name]))


def _network(address: str) -> str:
    network = network_of(address)
    return _LOCAL if not address or is_loopback(address) or is_loopback(network) else network


def socket_of(transport: BaseTransport) -> Transport:
    """Return the transport of a connection's socket, below TLS."""
    below: Transport = transport.get_extra_info("below_tls", transport)
    return below
