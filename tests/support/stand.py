"""An S3 server that counts the downloads it is asked for."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyarrow import fs


@dataclass
class Stand:
    """Where the server is, and how often each name was asked for by GET."""

    place: str
    gets: Counter[str]

    def uri(self, path: str) -> str:
        return f"s3://key:secret@runs/{path}?scheme=http&endpoint_override={self.place}&region=us-east-1"

    def shards(self) -> Counter[str]:
        return Counter({name: n for name, n in self.gets.items() if "-train" in name and name.endswith(".npy")})


@contextmanager
def running_stand() -> Iterator[Stand]:
    """A server with the empty bucket `runs`. It needs moto."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    place = "{}:{}".format(*running.get_host_and_port())
    counted: Counter[str] = Counter()
    assert running._server is not None
    app: Callable[..., Any] = running._server.app

    def counting(environ: dict[str, Any], respond: Any) -> Any:
        if environ["REQUEST_METHOD"] == "GET":
            counted[environ["PATH_INFO"].rsplit("/", 1)[-1]] += 1
        return app(environ, respond)

    running._server.app = counting
    fs.S3FileSystem(
        access_key="key", secret_key="secret", endpoint_override=place, scheme="http", allow_bucket_creation=True
    ).create_dir("runs")
    yield Stand(place, counted)
    running.stop()
