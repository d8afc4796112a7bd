"""A TCP line to an S3 server on which things go wrong, in a given order."""

import contextlib
import socket
import threading
import time

FAULTS = ("500", "503", "cut", "drop", "stall")
_STALL = 8.0  # seconds of silence: longer than the S3 client waits for a byte (3 s)
_ERROR = {
    "500": b"HTTP/1.1 500 Internal Server Error\r\n",
    "503": b"HTTP/1.1 503 Slow Down\r\n",
}


class Line(threading.Thread):
    """A listening port at `place`. Each of the first connections meets one of `faults`; later ones reach the server.

    500 and 503 are answered in the server's place, "cut" ends after 200 bytes of its answer, "drop" before any,
    "stall" says nothing for a long time. `met` counts the faults that were met, `tried` the connections.
    """

    def __init__(self, server: str, faults: list[str]) -> None:
        super().__init__(daemon=True)
        host, _, port = server.rpartition(":")
        self._server, self.faults, self.met, self.tried = (host, int(port)), list(faults), 0, 0
        self._door = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._door.getsockname()[1]}"
        self.start()

    def run(self) -> None:
        while True:
            client, _ = self._door.accept()
            self.tried += 1
            fault = self.faults.pop(0) if self.faults else ""
            self.met += bool(fault)
            threading.Thread(target=self._serve, args=(client, fault), daemon=True).start()

    def _serve(self, client: socket.socket, fault: str) -> None:
        with contextlib.suppress(OSError), client:
            if fault in _ERROR:
                client.recv(1 << 16)
                client.sendall(_ERROR[fault] + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
                client.shutdown(socket.SHUT_WR)
                client.settimeout(1)
                while client.recv(1 << 16):
                    pass
            elif fault == "stall":
                time.sleep(_STALL)
            elif fault != "drop":
                with socket.create_connection(self._server) as far:
                    forth = threading.Thread(target=_pump, args=(client, far), daemon=True)
                    forth.start()
                    _pump(far, client, 200 if fault == "cut" else None)
                    if fault != "cut":
                        forth.join()


def _pump(source: socket.socket, sink: socket.socket, most: int | None = None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(most or 1 << 16):
            sink.sendall(data)
            if most:
                return
        sink.shutdown(socket.SHUT_WR)
