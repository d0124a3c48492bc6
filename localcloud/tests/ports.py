"""Ports that stay a test's own."""

from __future__ import annotations

import socket


def bound(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Take a TCP port and do not listen there yet.

    Until somebody listens, who connects is refused. The kernel gives the port to no other program meanwhile, and lets a
    server listen there that also sets SO_REUSEADDR (socket(7)).

    Args:
        host: the address.
        port: the port; 0 for any that is free.

    Returns:
        The socket, which the caller closes.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((host, port))
    return holder
