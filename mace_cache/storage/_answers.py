"""How much of a server's answer is taken: what it says of its size may be a lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["LimitedSocket"]


class LimitedSocket:
    """A connection that takes so much between two requests and no more.

    Args:
        connection: the socket.
        limit: how many bytes.
    """

    def __init__(self, connection: socket.socket, limit: int) -> None:
        self._connection = connection
        self._limit = self._left = limit

    def __getattr__(self, name: str) -> Any:
        """Give what else a socket has."""
        return getattr(self._connection, name)

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        """Send a request, whose answer may be as large again."""
        self._left = self._limit
        self._connection.sendall(data, flags)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive bytes.

        Raises:
            ConnectionError: they are more than there may be.
        """
        data = self._connection.recv(size, flags)
        self._count(len(data))
        return data

    def recv_into(self, buffer: WriteableBuffer, size: int = 0, flags: int = 0) -> int:
        """Receive bytes into a buffer; raises as `recv`."""
        received = self._connection.recv_into(buffer, size, flags)
        self._count(received)
        return received

    def _count(self, received: int) -> None:
        self._left -= received
        if self._left < 0:
            raise ConnectionError(f"an answer has more than {self._limit} bytes")
