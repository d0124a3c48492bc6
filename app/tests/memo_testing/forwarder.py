"""A way to a server that can be cut, frozen and mended, to see what its outage does."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from localcloud.tests.ports import bound

_reserved: list[socket.socket] = []
"""Kept to the end: an application that outlives its test goes on asking whether its server is back, at this port. Given
to another test's server it would ask that one (a Redis client was seen to read MySQL's greeting)."""


class Forwarder:
    """Forwards a loopback port to a server.

    Args:
        host: the server's.
        port: the server's.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._frozen = threading.Event()
        self._reserved = _kept(0)
        self.port: int = self._reserved.getsockname()[1]
        self.mend()

    def mend(self) -> None:
        """Forward (again)."""
        with self._lock:
            self._frozen.clear()
            if self._listener is None:
                self._listener = self._reserved
                self._listener.listen()
                threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Close every connection and refuse new ones, as a server that stopped."""
        with self._lock:
            listener, self._listener = self._listener, None
            pairs, self._pairs = self._pairs, []
            if listener is not None:
                with suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
                listener.close()
                # Nobody listens, but the port stays ours: another program may not take it meanwhile.
                self._reserved = _kept(self.port)
        for pair in pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def freeze(self) -> None:
        """Keep connections but pass nothing on, as a host that vanished."""
        self._frozen.set()

    def strand(self) -> None:
        """Pass nothing on over the connections there are, and serve new ones: a host that restarted behind a filter."""
        self._frozen.set()
        self._frozen = threading.Event()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target)
            except OSError:
                near.close()
                continue
            with self._lock:
                if self._listener is not listener:  # cut since it was accepted
                    near.close()
                    far.close()
                    return
                self._pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink, self._frozen), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, frozen: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not frozen.is_set():
                    sink.sendall(data)
        for end in (source, sink):
            # Closing alone tells the other side nothing while another thread waits for data from it.
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                end.close()


def _kept(port: int) -> socket.socket:
    """A port of loopback that is never given back, 0 for any."""
    reserved = bound(port=port)
    _reserved.append(reserved)
    return reserved
