"""TLS and Unix sockets, by real handshakes: bounded like plain connections, renewed while served, stolen by nobody."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from reshelf.errors import InputError
from reshelf.inference.serving import listen
from reshelf.inference.serving.config import LimitsConfig, ServeConfig
from reshelf.inference.serving.listen import check_certificate, check_place, unix_socket
from reshelf.inference.serving.run import HttpServer, serve
from tests.inference.serving.server import make_certificate, until
from tests.inference.serving.test_connections import answer_length, closed_after_s, connect


class ThreadServer(HttpServer):
    """In a thread, which no signal reaches."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def served(**settings: Any) -> Iterator[ThreadServer]:
    config = ServeConfig(Path("m"), port=0, limits=LimitsConfig(connections=20, read_s=1.0), **settings)
    server = ThreadServer(answer_length, config, lambda: None)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started, 20)
        yield server
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


def test_who_never_shakes_hands_keeps_nobody_out(certificate: Path) -> None:
    with served(tls_cert=certificate) as server:
        port = server.servers[0].sockets[0].getsockname()[1]
        silent = [connect(port, sent) for sent in (b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n") * 20]
        trusted = ssl.create_default_context(cafile=certificate)
        assert httpx.post(f"https://127.0.0.1:{port}", content=b"abc", verify=trusted, timeout=5).text == "3"
        assert all(closed_after_s(one) < 3 for one in silent)
        with pytest.raises(httpx.ConnectError):  # nobody whom the client trusts has signed it
            httpx.post(f"https://127.0.0.1:{port}", content=b"abc")


def test_a_renewed_certificate_is_for_the_connections_that_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "_LOOK_S", 0.1)
    certificate = make_certificate(tmp_path / "this.pem", with_key=False)
    key = certificate.with_suffix(".key")
    renewed = make_certificate(tmp_path / "renewed.pem", with_key=False)

    with served(tls_cert=certificate, tls_key=key) as server:
        address = server.servers[0].sockets[0].getsockname()
        former = certificate.read_text()
        shutil.copy(renewed, certificate)  # and not yet its key
        time.sleep(0.3)
        assert ssl.get_server_certificate(address) == former
        shutil.copy(renewed.with_suffix(".key"), key)
        until(lambda: ssl.get_server_certificate(address) == renewed.read_text(), 5)


@pytest.mark.parametrize("fault", ["none there", "no PEM", "another's key", "a passphrase"])
def test_a_certificate_that_cannot_be_used_is_refused(fault: str, tmp_path: Path) -> None:
    good = make_certificate(tmp_path / "good.pem", with_key=False)
    key = good.with_suffix(".key")
    check_certificate(good, key)
    if fault == "none there":
        key.unlink()
    elif fault == "no PEM":
        good.write_text("certificate")
    elif fault == "another's key":
        make_certificate(tmp_path / "other.pem", with_key=False).with_suffix(".key").rename(key)
    else:
        os.system(f"openssl ec -in {key} -aes128 -passout pass:secret -out {key} 2>/dev/null")
    with pytest.raises(InputError, match="tls_cert"):
        check_certificate(good, key)


def test_a_unix_socket_is_its_users_own_and_one_servers(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with unix_socket(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with pytest.raises(InputError, match="another server listens there; stop that one, or"), unix_socket(path):
            pass
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with unix_socket(path):
        pass
    path.write_text("no socket")
    for taken in (path, tmp_path / "none" / "s", tmp_path / ("long" * 50)):
        with pytest.raises(InputError, match=r"uds .*; give another path"), unix_socket(taken):
            pass
    assert path.read_text() == "no socket"


def test_of_servers_that_start_at_once_beside_a_dead_ones_socket_one_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second took the first one's socket away, when it came between its look and its removal."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    is_socket, refused = Path.is_socket, []

    def another_comes(self: Path) -> bool:
        monkeypatch.setattr(Path, "is_socket", is_socket)
        with pytest.raises(InputError, match="another server listens there"), unix_socket(path):
            pass
        refused.append(path)
        return is_socket(self)

    monkeypatch.setattr(Path, "is_socket", another_comes)
    with unix_socket(path), socket.socket(socket.AF_UNIX) as client:
        assert refused
        client.connect(str(path))


def test_a_server_that_is_stopped_keeps_its_socket(tmp_path: Path) -> None:
    """It has no place for one more connection; the look for it waited for ever."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stopped, socket.socket(socket.AF_UNIX) as waiting:
        stopped.bind(str(path))
        stopped.listen(0)
        waiting.connect(str(path))
        with pytest.raises(InputError, match="another server listens there"), unix_socket(path):
            pass
        assert path.is_socket()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tls_key": Path("k")}, "no tls_cert"),
        ({"uds": Path("s"), "tls_cert": Path("c")}, "one of the two"),
        ({"redis_password_file": Path("p")}, "redis://"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ServeConfig(Path("m"), **settings)


def test_where_nobody_can_listen_is_said_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reshelf.json").touch()
    (tmp_path / "file").touch()
    monkeypatch.delattr("reshelf.inference.serving.run.ServedEngine")  # whoever starts an engine fails
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        for where, said in (
            ({"port": taken}, f"port {taken} of 127.0.0.1 cannot be listened on: Address already in use"),
            ({"uds": tmp_path / "file"}, "uds .*: Address already in use; give another path"),
        ):
            with pytest.raises(InputError, match=said):
                serve(ServeConfig(tmp_path, **where))
    with pytest.raises(InputError, match=r"192\.0\.2\.1 cannot be listened on: Cannot assign requested address"):
        check_place("192.0.2.1", 8000, None)
    check_place("localhost", 0, None)
    check_place("", 0, tmp_path / "socket")
    assert not (tmp_path / "socket").exists()
