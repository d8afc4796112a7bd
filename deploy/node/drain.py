"""Tell Ray that this node goes away, so that splitray's workers on it write their checkpoints and move.

    python drain.py now SECONDS     the node goes in so many seconds: the hook of a pod that is deleted. Returns once
                                    Ray's work on it has ended, or its time is up
    python drain.py aws | gcp       waits for the cloud's notice of a spot node's end, then tells Ray

Ray has to run on this node. Under token authentication RAY_AUTH_MODE and the token are those of the node.
"""

import subprocess
import sys
import time
import urllib.error
import urllib.request

# Addresses of the metadata service, the same on every machine of that cloud.
_AWS, _GCP = "http://169.254.169.254/latest", "http://metadata.google.internal/computeMetadata/v1"
_NOTICE = {"aws": 110, "gcp": 25}  # seconds between the notice and the end, less some for this program
_LOOK = 5.0  # seconds between two questions


def _ask(url: str, headers: dict[str, str], method: str = "GET") -> str | None:
    """What the metadata service answers; None where it has no such entry, or does not answer just now."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers, method=method), timeout=5) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, TimeoutError):
        return None


def noticed(cloud: str, service: str) -> bool:
    """Whether the cloud has said that it takes this node away.

    Args:
        cloud: "aws" or "gcp".
        service: address of its metadata service.
    """
    if cloud == "gcp":
        return _ask(f"{service}/instance/preempted", {"Metadata-Flavor": "Google"}) == "TRUE"
    token = _ask(f"{service}/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")
    headers = {} if token is None else {"X-aws-ec2-metadata-token": token}
    return _ask(f"{service}/meta-data/spot/instance-action", headers) is not None  # 404 until there is a notice


def drain(seconds: int) -> int:
    """Have Ray mark this node as one that goes in so many seconds; the exit code of Ray's command."""
    command = ["ray", "drain-node", "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=the node is taken away"]
    return subprocess.run([*command, f"--deadline-remaining-seconds={seconds}"], check=False).returncode


def _ended(seconds: float) -> None:
    """Wait until no raylet runs here: a drained one ends when its last worker has."""
    import psutil

    deadline = time.monotonic() + seconds
    while any(p.info["name"] == "raylet" for p in psutil.process_iter(["name"])) and time.monotonic() < deadline:
        time.sleep(1.0)


def main(arguments: list[str]) -> int:
    match arguments:
        case ["now", seconds] if seconds.isdigit():
            deadline = time.monotonic() + int(seconds)
            if code := drain(int(seconds)):
                return code
            _ended(deadline - time.monotonic())
            return 0
        case ["aws" | "gcp" as cloud, *service]:
            address = service[0] if service else {"aws": _AWS, "gcp": _GCP}[cloud]
            while not noticed(cloud, address):
                time.sleep(_LOOK)
            return drain(_NOTICE[cloud])
        case _:
            print(__doc__, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
