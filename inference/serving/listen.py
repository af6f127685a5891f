"""Where the server listens: a port, a port with TLS, or a Unix socket.

check_place("127.0.0.1", 8000, None)
check_certificate(Path("shop.pem"), None)
with unix_socket(Path("/run/reshelf.sock")) as listener: ...
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
        raise InputError(f"uds {path}: another server listens there")
    except ConnectionRefusedError:
        if path.is_socket():
            path.unlink()
    except OSError:  # `bind` says it better
        pass
    with socket.socket(socket.AF_UNIX) as listener:
        before = os.umask(0o117)
        try:
            listener.bind(str(path))
            listener.listen()
        except OSError as error:
            raise InputError(f"uds {path}: {error.strerror or error}; give another path") from error
        finally:
            os.umask(before)
        own = path.stat().st_ino
        try:
            yield listener
        finally:
            if path.exists() and path.stat().st_ino == own:
                path.unlink()
