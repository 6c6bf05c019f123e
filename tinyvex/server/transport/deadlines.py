"""
When a client that sends nothing, or sends too slowly, is closed: the rules and the numbers. (pure)

=====================================================  ===================  =========================================
awaited from the client                                within               otherwise
=====================================================  ===================  =========================================
TLS handshake (`tls`)                                  HANDSHAKE_SECONDS    closed
first byte of a connection (`front_door`)              HANDSHAKE_SECONDS    closed
the complete head of a request, from its first byte    HANDSHAKE_SECONDS    status 408
`tinyvex/connect`, from the opening of the socket      HANDSHAKE_SECONDS    SlowHandshake
any byte on a WebSocket, such as the answer to a ping  IDLE_SECONDS         IdleTimeout
the next byte of a request's body                      HTTP_IDLE_SECONDS    status 408
the next request on an HTTP connection                 HTTP_IDLE_SECONDS    closed
the client's half of a close                           CLOSE_SECONDS        closed
=====================================================  ===================  =========================================

The ticker checks once a second, so a client may take up to a second longer. `slow_clients` has the rules for clients
that do not *read*. Times are those of `Runtime.awake_seconds`,
because a client cannot be heard while the process is suspended.
"""

from __future__ import annotations

from tinyvex import errors, limits

__all__ = ["is_http_idle", "is_open_too_long", "late_body", "late_head", "websocket_error"]


def is_open_too_long(now: float, opened_at: float) -> bool:
    """Return whether a new socket has had its time to send the head of its first request."""
    return now - opened_at > limits.HANDSHAKE_SECONDS


def websocket_error(
    now: float, *, opened_at: float, received_at: float, is_connected: bool
) -> errors.TinyvexError | None:
    """
    Return the error that closes a WebSocket; None while its client is in time.

    Args:
        now: the current time.
        opened_at: when the socket was accepted.
        received_at: when the last byte arrived.
        is_connected: whether `tinyvex/connect` succeeded.
    """
    if not is_connected and now - opened_at > limits.HANDSHAKE_SECONDS:
        return errors.SlowHandshake(f"no tinyvex/connect arrived within {limits.HANDSHAKE_SECONDS:g} s")
    if now - received_at > limits.IDLE_SECONDS:
        return errors.IdleTimeout(f"nothing arrived for {limits.IDLE_SECONDS:g} s")
    return None


def late_head(now: float, begun_at: float) -> str | None:
    """Return why a request whose head has begun is refused; None while it is in time."""
    if now - begun_at > limits.HANDSHAKE_SECONDS:
        return f"The head of the request was not complete within {limits.HANDSHAKE_SECONDS:g} seconds."
    return None


def late_body(now: float, received_at: float) -> str | None:
    """Return why a request whose body is awaited is refused; None while it is in time."""
    if now - received_at > limits.HTTP_IDLE_SECONDS:
        return f"No byte of the request's body arrived for {limits.HTTP_IDLE_SECONDS:g} seconds."
    return None


def is_http_idle(now: float, received_at: float) -> bool:
    """Return whether an HTTP connection has waited too long for its next request."""
    return now - received_at > limits.HTTP_IDLE_SECONDS
