"""Where the server listens: a port, a port with TLS, or a Unix socket.

check_place("127.0.0.1", 8000, None)
check_certificate(Path("shop.pem"), None)
with unix_socket(Path("/run/reshelf.sock")) as listener: ...
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from reshelf.data.atomic import lock_beside
from reshelf.errors import InputError
from reshelf.inference.serving.log import log_once_a_minute
from reshelf.inference.serving.tenants import file_version

logger = logging.getLogger("reshelf.serving")
_LOOK_S = 1.0


def check_certificate(certificate: Path, key: Path | None) -> None:
    """Whether TLS can be served with it.

    Args:
        certificate: PEM, with those between it and its root.
        key: PEM; None where it is in the same file.

    Raises:
        InputError: it cannot.
    """

    def no_passphrase() -> str:  # OpenSSL would ask the terminal
        raise InputError(f"the key of tls_cert {certificate} has a passphrase; give one without")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, no_passphrase)
    except OSError as error:  # ssl.SSLError is one
        named = f"tls_cert {certificate}" if key is None else f"tls_cert {certificate} and tls_key {key}"
        raise InputError(f"{named}: {error.strerror or error}; give a certificate and its key, as PEM") from error


def check_place(host: str, port: int, uds: Path | None) -> None:
    """Whether it can be listened there, before a model is loaded for it.

    Raises:
        InputError: it cannot.
    """
    if uds is not None:
        with unix_socket(uds):
            pass
        return
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        raise InputError(
            f"port {port} of {host} cannot be listened on: {error.strerror or error}; choose another one with --port"
        ) from error


async def renew_certificate(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    """For ever: a renewed certificate is for the connections that follow, one that cannot be used changes nothing."""
    files = [certificate] if key is None else [certificate, key]
    seen = [file_version(file) for file in files]
    while True:
        await asyncio.sleep(_LOOK_S)
        if (now := [file_version(file) for file in files]) == seen:
            continue
        try:
            check_certificate(certificate, key)  # what `load_cert_chain` refuses, it has half taken
            context.load_cert_chain(certificate, key)
            seen = now
            logger.info("certificate renewed")
        except (InputError, OSError) as error:
            log_once_a_minute("certificate not renewed", problem=str(error))


@contextmanager
def unix_socket(path: Path) -> Iterator[socket.socket]:
    """A socket for its user and group, and gone at the end. One that a killed server left is replaced.

    Raises:
        InputError: another server listens there, or nobody can.
    """
    with ExitStack() as held:
        try:
            # Held as long as the socket: of two that start at once, one would take the other's for a dead server's.
            held.enter_context(lock_beside(path))
            _check_nobody_listens(path)
            listener = held.enter_context(socket.socket(socket.AF_UNIX))
            before = os.umask(0o117)
            try:
                listener.bind(str(path))
                listener.listen()
            finally:
                os.umask(before)
        except BlockingIOError as error:
            raise InputError(
                f"uds {path}: another server listens there; stop that one, or give another path"
            ) from error
        except OSError as error:
            raise InputError(f"uds {path}: {error.strerror or error}; give another path") from error
        own = path.stat().st_ino
        try:
            yield listener
        finally:
            if path.exists() and path.stat().st_ino == own:
                path.unlink()


def _check_nobody_listens(path: Path) -> None:
    """Remove what a killed server left.

    Raises:
        BlockingIOError: somebody listens.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a server that is stopped, and has no place for one more, is one too
        found = probe.connect_ex(str(path))  # of what else it may be, `bind` says it better
    if found in (0, errno.EAGAIN):
        raise BlockingIOError
    if found == errno.ECONNREFUSED and path.is_socket():
        path.unlink()
