#!/usr/bin/env bash
# Guess: socket_timeout=0.05 ends a call after 50 ms with TimeoutError, for the caller to decide whether it may be sent again. Reads may be
#   repeated by themselves; INCR, RPUSH and scripts are not, for nobody knows whether Redis has done them. Whether the address is
#   given as host= or as a URL makes no difference.
# Happens: Redis(host=…) sends every command again on a timeout, up to ten times (three in redis-py 6 and 7), with waits between;
#   Redis.from_url(…) of the same address never does. While Redis is busy for a second, INCR counts 2 and returns 2 as if all were well,
#   long after the timeout; a script that takes 60 ms adds its event eleven times and then fails, after some four seconds. Clicks,
#   rate limits and budgets are counted up whenever Redis is slow, and a request with 50 ms for its history waits for seconds.
# Source: redis 8.1.0, client.py (__init__ has retry = Retry(ExponentialWithJitterBackoff(base=0.01, cap=1), 10), from_url a pool
#   without), redis/redis-py#4082; #261 had the double INCR in 2012. Pass retry=Retry(NoBackoff(), 0), or make writes that may
#   come twice. Reshelf passes it (history_redis.py). Needs redis-server on the PATH; seen with Redis 7.0.15.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
command -v redis-server >/dev/null || { echo "redis-server is not installed"; exit 2; }
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q redis==8.1.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import os
import subprocess
import threading
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUT_S = 0.05
server = subprocess.Popen(
    ["redis-server", "--port", "0", "--unixsocket", "redis.sock", "--save", ""], stdout=subprocess.DEVNULL
)
wait = """
local start, now = redis.call('TIME'), nil
repeat now = redis.call('TIME') until now[1] - start[1] + (now[2] - start[2]) / 1e6 > tonumber(ARGV[1])
"""


def client(by_url: bool = False, **more: object) -> redis.Redis:
    path = os.path.abspath("redis.sock")
    return redis.Redis.from_url(f"unix://{path}", **more) if by_url else redis.Redis(unix_socket_path=path, **more)


def measured(call: object, **more: object) -> tuple[object, float]:
    start = time.monotonic()
    try:
        answer = call(client(socket_timeout=TIMEOUT_S, **more))
    except redis.TimeoutError:
        answer = "TimeoutError"
    return answer, time.monotonic() - start


def count_while_busy(**more: object) -> tuple[object, float, int]:
    patient.delete("clicks")
    connected = client(socket_timeout=TIMEOUT_S, **more)
    connected.ping()
    busy = threading.Thread(target=lambda: client(socket_timeout=30).eval(wait, 0, 1))
    busy.start()
    time.sleep(0.3)  # until Redis is
    answer, took = measured(lambda _: connected.incr("clicks"))
    busy.join()
    time.sleep(0.5)
    return answer, took, int(patient.get("clicks"))


try:
    patient = client(socket_timeout=30, retry=Retry(NoBackoff(), 0))
    for _ in range(100):
        try:
            patient.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.1)
    print("redis-py", redis.__version__, "Redis", patient.info()["redis_version"], "timeout", TIMEOUT_S)
    answer, took, clicks = count_while_busy()
    print(f"INCR while Redis is busy: {answer} after {took:.2f} s, clicks {clicks}")
    none = Retry(NoBackoff(), 0)
    answer_once, took_once, clicks_once = count_while_busy(retry=none)
    print(f"  without retries: {answer_once} after {took_once:.2f} s, clicks {clicks_once}")
    slow = wait + "return redis.call('RPUSH', KEYS[1], 'event')"
    answer_url, took_url, clicks_url = count_while_busy(by_url=True)
    print(f"  of the same address as a URL: {answer_url} after {took_url:.2f} s, clicks {clicks_url}")
    failed, took_slow = measured(lambda one: one.eval(slow, 1, "events", 0.06))
    time.sleep(2)
    events = patient.llen("events")
    print(f"script of 60 ms: {failed} after {took_slow:.1f} s, events {events}")
    assert answer == clicks == 2
    assert took > 5 * TIMEOUT_S
    assert answer_once == "TimeoutError"
    assert clicks_once == 1
    assert answer_url == "TimeoutError"
    assert clicks_url == 1
    assert failed == "TimeoutError"
    assert events > 5
    assert took_slow > 1
finally:
    server.terminate()
    server.wait()
PYTHON
