"""Whether a Ray cluster answers at an address, asked before Ray is: on its own it waits 45 s, then ends the process."""

import os
import socket
from urllib.parse import urlsplit

from splitray.errors import UserError

PATIENCE = 10.0  # seconds; a head that is busy answers within 1


def check_address(address: str, found: str | None = None, patience: float = PATIENCE) -> None:
    """Refuse an address at which no Ray head answers.

    Args:
        address: as RAY_ADDRESS holds it.
        found: what Ray takes `auto` for; it may be the address of a cluster that has ended since.
        patience: seconds to wait for an answer, for the connection and for the protocol each.

    Raises:
        UserError: the address is of another kind, nobody answers there, or something that is no Ray head.
    """
    scheme, _, rest = address.rpartition("://")
    if scheme in ("http", "https"):
        raise _refusal(
            address,
            "this is the address of the job API, which `ray job submit` takes. For the job itself unset RAY_ADDRESS, "
            "or give the head's own address, such as auto or 10.0.0.1:6379",
        )
    if scheme == "ray":
        raise _refusal(
            address,
            "Ray Client is not supported. Submit the job (`ray job submit`), or start it on a machine of the cluster "
            "with RAY_ADDRESS=auto",
        )
    if scheme:
        raise _refusal(address, f"{scheme}:// is no address of a Ray head: give auto, or HOST:PORT")
    if rest == "auto":
        rest = found or ""
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if address == "auto" and not rest:
        raise _refusal(address, "no Ray runs on this machine. Start one (`ray start --head`), or unset RAY_ADDRESS")
    if not host or not port:
        raise _refusal(address, "give auto, or HOST:PORT such as 10.0.0.1:6379")
    try:
        socket.create_connection((host, port), timeout=patience).close()
    except OSError as error:
        place = "there" if address == rest else f"at {rest}"
        raise _refusal(
            address,
            f"nobody answers {place} ({error.strerror or error}): the cluster has ended, or this machine does not "
            "reach it. Unset RAY_ADDRESS to start a Ray here",
        ) from error
    if os.environ.get("RAY_USE_TLS", "0") == "0" and not _speaks_grpc(rest, patience):
        raise _refusal(
            address,
            f"what answers there is no Ray head, or hangs: no answer to gRPC in {patience:g} s. The head's port is "
            "6379 by default; 8265 is the dashboard's and 10001 Ray Client's",
        )


def _refusal(address: str, why: str) -> UserError:
    return UserError(f"RAY_ADDRESS = {address}: {why}")


def _speaks_grpc(address: str, patience: float) -> bool:
    import grpc

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=patience)
        except grpc.FutureTimeoutError:
            return False
    return True
