"""What cannot be had from the Hub is said at once: not there, not reachable, or no answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from reshelf.errors import InputError
from reshelf.inference.reranker import find_reranker
from reshelf.modeling import hub
from reshelf.modeling.hub import hub_problem
from reshelf.modeling.loading import check_base_exists


class Hub(BaseHTTPRequestHandler):
    """Knows one model."""

    def do_HEAD(self) -> None:
        if self.path.startswith("/shop/base/"):
            self.send_response(200)
            for name, value in {"ETag": '"1"', "X-Repo-Commit": "a" * 40, "Content-Length": "2"}.items():
                self.send_header(name, value)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def be_at(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    template = f"http://127.0.0.1:{port}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture(autouse=True)
def _a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With nothing of it in the cache."""
    server = HTTPServer(("127.0.0.1", 0), Hub)
    serving = threading.Thread(target=server.serve_forever, args=(0.01,))
    serving.start()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    be_at(server.server_port, monkeypatch)
    yield
    server.shutdown()
    serving.join()
    server.server_close()


def test_what_is_there_has_no_problem() -> None:
    assert hub_problem("shop/base", "config.json") is None
    check_base_exists("shop/base")


def test_what_is_nowhere_is_said_with_both_cures() -> None:
    with pytest.raises(InputError, match=r"no folder here, .*: it has no model of that name.*pretrain.* or correct"):
        check_base_exists("shop/nothing")
    with pytest.raises(InputError, match=r"no folder here, .*: it has no model of that name.*finetune.* or correct"):
        find_reranker("shop/nothing", None)


@pytest.mark.parametrize("accepts", [True, False])
def test_a_hub_that_is_away_is_not_waited_for(accepts: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if accepts:
            silent.listen()
        be_at(silent.getsockname()[1], monkeypatch)
        started = time.perf_counter()
        with pytest.raises(InputError, match=r"it did not answer|it cannot be reached"):
            check_base_exists("shop/base")
        assert time.perf_counter() - started < 2
        snapshot = tmp_path / "cache" / "models--shop--base"
        (snapshot / "refs").mkdir(parents=True)
        (snapshot / "refs" / "main").write_text("abc")
        (snapshot / "snapshots" / "abc").mkdir(parents=True)
        (snapshot / "snapshots" / "abc" / "config.json").write_text("{}")
        check_base_exists("shop/base")  # the cache has it
