"""Who may reach the Ray that splitray starts: the token's file, and the addresses that its ports listen on.

Imports no Ray: Ray reads the environment when it is first imported, so this comes before.
"""

import logging
import os
import stat
from pathlib import Path

_log = logging.getLogger(__name__)

# Ray's switch for clusters where one machine is the rule (macOS, Windows), on everywhere else. Off means that the
# address of the node is loopback, and that GCS, raylet, agents and metrics listen there and nowhere else.
_CLUSTER = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def listen_on_loopback() -> None:
    """Have a Ray that this process starts, but none that it joins, listen on loopback only.

    For a process that is splitray's own, before Ray is imported: it changes the environment. What the user has set
    there goes before.
    """
    if os.environ.get("RAY_ADDRESS", "") in ("", "local"):
        os.environ.setdefault(_CLUSTER, "0")


def token_file() -> Path:
    """Where Ray reads and writes its token, there or not."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray/auth_token").expanduser()


def tighten_token() -> None:
    """Take the token's file from other users: Ray writes it readable for all of them."""
    path = token_file()
    try:
        status = path.stat()
        if status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) & 0o077:
            path.chmod(0o600)
    except FileNotFoundError:
        return
    except OSError as error:
        _log.warning("Ray's token %s can be read by other users: %s", path, error.strerror or error)
