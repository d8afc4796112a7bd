"""The app on Ray Serve: replicas that each hold all models of a run, or vLLM's engines (`engines`)."""

import logging
import os
import secrets
import threading
from typing import Any

from fastapi import FastAPI
from pydantic import Field
from ray import serve
from ray.util.metrics import Counter, Gauge

from splitray.errors import UserError
from splitray.evaluate.mixture import alone, import_plugins, load_mixture, specialists_of
from splitray.runtime.gpu import gpu_fault
from splitray.serve.app import build
from splitray.serve.endpoints import AUTO
from splitray.serve.engine import Engine
from splitray.serve.needs import check_installed
from splitray.serve.settings import ServeSettings
from splitray.storage.folder import Folder

_log = logging.getLogger(__name__)
NAME = "splitray"
TOKEN = "SPLITRAY_SERVE_TOKEN"
_GRACE_SECONDS = 20.0  # for what is being written when a replica is stopped


class Replica:
    """One process: all models of a run, the engine over them, and the API.

    Args:
        run: address of the run folder, absolute: a replica works in a folder of its own.
        token: what requests must show.
    """

    def __init__(self, run: str, settings: ServeSettings, token: str) -> None:
        import torch

        torch.set_num_threads(settings.threads)
        if settings.gpus and (fault := gpu_fault()) is not None:
            raise UserError(f"--gpus asks for GPUs, and this replica cannot use its own: {fault}")
        mixture = load_mixture(run, "cuda" if settings.gpus else "cpu", settings.prior)
        self._settings, self._token = settings, token
        self._requests = Counter("splitray_serve_requests", "Requests that were written")
        self._tokens = Counter("splitray_serve_tokens", "Tokens that were written")
        self._waiting = Gauge("splitray_serve_waiting", "Requests that wait")
        self._engine = Engine({AUTO: mixture, **alone(mixture)}, settings.batch, settings.waiting, self._count)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build(self._engine, self._settings, self._token)

    def check_health(self) -> None:
        if not self._engine.alive():
            raise RuntimeError("the engine has stopped")

    def _count(self, requests: int, tokens: int) -> None:
        self._requests.inc(requests)
        self._tokens.inc(tokens)
        self._waiting.set(self._engine.waiting)


def deploy(run: str, settings: ServeSettings, token: str) -> None:
    """Start the server on the Ray that this process has joined; returns once every replica answers.

    Raises:
        UserError: the run folder cannot be served.
    """
    served = _application(run, settings, token)  # what the folder lacks is said before anything is started
    serve.start(http_options={"host": settings.host, "port": settings.port, "request_timeout_s": settings.seconds + 10})
    serve.run(served, name=NAME, route_prefix="/")


class ServedRun(ServeSettings):
    """Arguments of `app` in a config file of Ray Serve. `host` and `port` are those of the file, not these."""

    run: str = Field(description="Address of the run folder, absolute.")


def app(arguments: ServedRun) -> serve.Application:
    """The server for a config file of Ray Serve: `import_path: splitray.serve.deployment:app`.

    The token is that of SPLITRAY_SERVE_TOKEN: nobody would see one that is made here.

    Raises:
        UserError: there is no token, or the run folder cannot be served.
    """
    token, fresh = server_token()
    if fresh:
        raise UserError(f"{TOKEN} is not set: requests must show a token, so give one to every node of the cluster")
    settings = ServeSettings(**arguments.model_dump(exclude={"run"}))
    return _application(arguments.run, settings, token)


def _application(run: str, settings: ServeSettings, token: str) -> serve.Application:
    check_installed(settings.engine)
    folder = Folder(run)
    specialists_of(folder)
    import_plugins(folder)
    common = {"name": NAME, "graceful_shutdown_timeout_s": _GRACE_SECONDS, "health_check_period_s": 5}
    if settings.engine == "vllm":
        from splitray.serve.engines import application  # it imports vLLM

        return application(folder.address, settings, token, common)
    options: dict[str, Any] = {
        "num_replicas": settings.replicas,
        "ray_actor_options": {"num_cpus": settings.threads, "num_gpus": settings.gpus},
        "max_ongoing_requests": settings.batch + settings.waiting,
    }
    replica = serve.deployment(**common, **options)(serve.ingress()(Replica))
    return replica.bind(folder.address, settings, token)


def server_token() -> tuple[str, bool]:
    """The token that requests must show, and whether it is new: that of the environment, else one is made."""
    given = os.environ.get(TOKEN)
    if given is not None and len(given) < 16:
        raise UserError(f"{TOKEN} is shorter than 16 characters: take a longer one, or unset it to have one made")
    return (given, False) if given else (secrets.token_urlsafe(24), True)


def wait_for_end() -> None:
    """Until Ctrl-C or SIGTERM; what is being written then is finished."""
    try:
        threading.Event().wait()
    finally:
        serve.shutdown()
