"""A transaction pooler: clients share one connection to a real server, which is lent to one of them for a transaction."""

import select
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ENCRYPTED = (80877103, 80877104)  # requests for SSL and GSS
_READY, _KEY, _END = b"Z", b"K", b"X"


class _Lent:
    """The one connection to the server under a user and a database, and what the server said when it was made."""

    def __init__(self, server: str, startup: bytes) -> None:
        self.free, self.rest = threading.Lock(), b""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(server)
        self.socket.sendall(startup)
        self.greeting, ready = b"", False
        while not ready:
            said, ready = self.said()
            self.greeting += said

    def said(self) -> tuple[bytes, bool]:
        """Return what the server says next, and whether it then is in no transaction; its key is not for a client."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server is gone")
        self.rest += data
        told, ready = b"", False
        while len(self.rest) > 4 and len(self.rest) > (length := struct.unpack("!I", self.rest[1:5])[0]):
            message, self.rest = self.rest[: length + 1], self.rest[length + 1 :]
            ready = message[:1] == _READY and message[5:] == b"I"
            told += _KEY + struct.pack("!III", 12, 1, 1) if message[:1] == _KEY else message
        return told, ready


def _serve(client: socket.socket, server: str, pool: dict[tuple[bytes, bytes], _Lent], opening: threading.Lock) -> None:
    with client, suppress(ConnectionError):
        startup = client.recv(1 << 16)
        while struct.unpack("!I", startup[4:8])[0] in _ENCRYPTED:
            client.sendall(b"N")
            startup = client.recv(1 << 16)
        said = startup[8:].split(b"\0")
        told = dict(zip(said[::2], said[1::2], strict=False))
        with opening:
            whose = told[b"user"], told[b"database"]
            if whose not in pool:
                pool[whose] = _Lent(server, startup)
        lent = pool[whose]
        client.sendall(lent.greeting)
        while (asked := client.recv(1 << 16)) and asked[:1] != _END:
            with lent.free:
                lent.socket.sendall(asked)
                ready = False
                while not ready:
                    for side in select.select([client, lent.socket], [], [])[0]:
                        if side is client:
                            more = client.recv(1 << 16)
                            if not more:
                                raise ConnectionError("a client left its transaction open")
                            lent.socket.sendall(more)
                        else:
                            answer, ready = lent.said()
                            client.sendall(answer)


@contextmanager
def pooler(server: str) -> Iterator[str]:
    """Pool the connections to the server at a socket's path; yield the folder of a socket for clients, at port 5432."""
    with tempfile.TemporaryDirectory(prefix="forensics-pooler-") as folder, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(Path(folder) / ".s.PGSQL.5432"))
        listening.listen()
        pool: dict[tuple[bytes, bytes], _Lent] = {}
        opening = threading.Lock()

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=_serve, args=[listening.accept()[0], server, pool, opening], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield folder
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for lent in pool.values():
                lent.socket.close()
