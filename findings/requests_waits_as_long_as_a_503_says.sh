#!/usr/bin/env bash
# Guess: HTTPAdapter(max_retries=3) tries again where no connection could be made, "never … requests where data has made it to
#   the server", as its page has it, and "by default, Requests does not retry failed connections"; an answer is an answer, and timeout=0.2 bounds the call.
# Happens: an answer of 429, 503 or 413 with Retry-After is not given to the caller: the request is sent again after as many seconds as the
#   header says, three times. timeout= does not bound the wait, and neither does anything else: a busy service that says 30
#   holds a thread for a minute and a half (a day, where it says so). Without the header the same answer comes at once. GET, PUT and
#   DELETE do so and POST does not, so that health checks and look-ups hang while searches, beside them, go through.
# Source: requests 2.34.2, adapters.py (its docstring is quoted above), urllib3 2.8.0, util/retry.py, Retry.is_retry;
#   psf/requests#6809 is of an hour's wait. max_retries=Retry(3, respect_retry_after_header=False, read=False). Reshelf answers 429 with
#   Retry-After above its limits; its own client's timeout_s holds over retries and waits.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q requests==2.34.2 urllib3==2.8.0
"$folder/venv/bin/python" - <<'PYTHON'
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

print("requests", requests.__version__)
came = []


class Busy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        came.append(self.path)
        self.send_response(503)
        if self.path == "/after":
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
threading.Thread(target=server.serve_forever, daemon=True).start()


def call(method: str, path: str, retries: object) -> tuple[int, int, float]:
    came.clear()
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=retries))
        start = time.monotonic()
        status = session.request(method, f"http://127.0.0.1:{server.server_port}{path}", timeout=0.2).status_code
    return status, len(came), time.monotonic() - start


for name, asked in {
    "GET, Retry-After: 1": ("GET", "/after", 3),
    "GET, without": ("GET", "/", 3),
    "POST, Retry-After: 1": ("POST", "/after", 3),
    "GET, header not respected": ("GET", "/after", Retry(3, read=False, respect_retry_after_header=False)),
}.items():
    status, sent, took = call(*asked)
    print(f"{name}: {status} after {sent} requests, {took:.1f} s (timeout 0.2 s)")
    assert status == 503
    assert sent == (4 if name == "GET, Retry-After: 1" else 1)
    assert (took > 2.9) == (sent == 4)
server.shutdown()
PYTHON
