#!/usr/bin/env bash
# Guess: --limit-concurrency 4 lets four requests be worked on at one time and answers the fifth with 503; a connection on which nothing is
#   asked, as a load balancer's or a client's pool keeps several, does not count ("maximum number of concurrent connections or tasks").
# Happens: each open connection counts, at work or not, and so does the one on which the request comes, before it is compared: 4 lets three
#   connections in, and 1 refuses every request. Three idle connections of one client make a service that does nothing answer
#   503 to all others, which goes on for as long as they are used now and then; a proxy whose pool is as large as the limit, the
#   natural choice, gets 503 for the last of its connections always, and a health check beside it fails under no load.
# Source: uvicorn 0.54.0, protocols/http/h11_impl.py and httptools_impl.py (`len(self.connections) >= self.limit_concurrency`); uvicorn.dev,
#   "Settings", has the sentence above. Bound requests in the application: Reshelf does (limits.requests), and sets no such limit.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q uvicorn==0.54.0 h11==0.16.0 httptools==0.7.1 httpx==0.28.1
"$folder/venv/bin/python" - <<'PYTHON'
import socket
import threading
import time
from contextlib import ExitStack

import httpx
import uvicorn

print("uvicorn", uvicorn.__version__)
at_work = most = 0


async def app(scope: dict[str, object], receive: object, send: object) -> None:
    global at_work, most
    at_work += 1
    most = max(most, at_work)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
    at_work -= 1


def statuses(limit: int, clients: int, http: str) -> list[int]:
    """One request of each client after the other; all keep their connections."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ExitStack() as stack:
        config = uvicorn.Config(
            app, limit_concurrency=limit, http=http, timeout_keep_alive=600, lifespan="off", log_level="critical"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            time.sleep(0.05)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        found = [stack.enter_context(httpx.Client()).get(url).status_code for _ in range(clients)]
        server.should_exit = True
        stack.close()
        thread.join()
    return found


for http in ("h11", "httptools"):
    for limit in (1, 4):
        found = statuses(limit, 5, http)
        print(f"{http}, limit {limit}, five clients, one request after the other: {found}")
        assert found == [200] * (limit - 1) + [503] * (6 - limit)
print("requests at work at one time, at most:", most)
assert most == 1
PYTHON
