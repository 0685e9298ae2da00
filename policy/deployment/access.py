"""Who may use a server: the secret that its clients share, and where it may do without one."""

from __future__ import annotations

import hmac
import ipaddress
import os
import socket
from pathlib import Path
from typing import Any

from reconverge.errors import ReconvergeError
from reconverge.policy.deployment.client import SECRET
from reconverge.schema import read_text

SHORTEST = 16
REMEDY = "make one by: openssl rand -hex 32 > secret.txt"


def read_secret(path: str | None) -> str | None:
    """Return the secret in the file, else that of the environment variable, else None.

    White space around it does not count. ReconvergeError if it is no secret.
    """
    text = os.environ.get(SECRET) if path is None else read_text(Path(path), REMEDY)
    if text is None:
        return None
    where = SECRET if path is None else f"secret_file={path}"
    secret = text.strip()
    if len(secret) < SHORTEST or not (secret.isascii() and secret.isprintable()):
        raise ReconvergeError(
            f"{where}: a secret is one line of at least {SHORTEST} ASCII characters; {REMEDY}"
        )
    return secret


def is_admitted(given: Any, secret: str | None) -> bool:
    """Whether a client that gives this may go on; the time taken does not tell how it differs."""
    if secret is None:
        return True
    return isinstance(given, str) and hmac.compare_digest(
        given.encode(errors="replace"), secret.encode()
    )


def open_listener(host: str, port: int, secret: str | None) -> socket.socket:
    """Return a socket that listens at the first address of `host`, IPv4 before IPv6.

    ReconvergeError if it cannot be had, or if other machines reach it and there is no secret.
    """
    try:
        found = min(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        family, address = found[0], found[4]
        if secret is None and not ipaddress.ip_address(str(address[0]).split("%")[0]).is_loopback:
            raise ReconvergeError(
                f"host={host}: other machines reach this address, so clients must share a secret: "
                f"give secret_file=secret.txt or the environment variable {SECRET} ({REMEDY}), "
                "or listen at host=127.0.0.1"
            )
        listener = socket.create_server(address, family=family)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", None) or error).lower()
        raise ReconvergeError(
            f"host={host} port={port}: cannot listen there ({reason}); choose another"
        ) from error
    listener.setblocking(False)
    return listener
