"""Ports of the local web pages: free or not, answering or not."""

from __future__ import annotations

import errno
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from stages.common.errors import UserError

HOST = "127.0.0.1"


def require_free(port: int, what: str, option: str) -> None:
    """Raise `UserError` when something listens on `port` already, or only the administrator may."""
    error = _refusal(port)
    if error is not None and error.errno == errno.EACCES:
        raise UserError(f"port {port}: {what} may not use it (below 1024?); give another {option}")
    if error is not None:
        raise UserError(
            f"port {port}: in use, so {what} cannot start there; stop what uses it or give another {option}"
        )


def in_use(port: int) -> bool:
    """Whether `port` of this machine is taken."""
    return _refusal(port) is not None


def _refusal(port: int) -> OSError | None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error
    return None


def answers(url: str) -> bool:
    """Whether `url` gives status 200 within two seconds."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def wait_until(url: str, alive: Callable[[], bool], seconds: float) -> bool:
    """Wait until `url` answers; False when `alive` says the server ended or the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and alive():
        if answers(url):
            return True
        time.sleep(0.3)
    return False
