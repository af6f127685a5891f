#!/usr/bin/env bash
# Guess: OTEL_EXPORTER_OTLP_TIMEOUT=500 gives an export half a second: OpenTelemetry's specification has timeouts of the environment in
#   milliseconds, 10000 by default, and so have OTEL_BSP_SCHEDULE_DELAY and OTEL_METRIC_EXPORT_TIMEOUT beside it, in Python too.
# Happens: Python's exporters read it as seconds: 500 is eight minutes, and a deployment that says 10000 to all of its services, as the
#   specification's default is, gives Python's nearly three hours. Where the collector takes connections and does not answer, a batch
#   holds the exporter for that long: the queue of 2,048 spans fills up behind it, later ones are dropped, and shutdown waits. A small
#   value that is right elsewhere (2) is right here by being read otherwise.
# Source: opentelemetry-exporter-otlp-proto-http 1.45.2, _common/__init__.py, _resolve_timeout; opentelemetry.io, "OTLP
#   Exporter Configuration" (OTEL_EXPORTER_OTLP_TIMEOUT, milliseconds); open-telemetry/opentelemetry-python#4044. Pass timeout= in seconds. Reshelf does (traces.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q opentelemetry-exporter-otlp-proto-http==1.45.2 opentelemetry-sdk==1.45.2
"$folder/venv/bin/python" - <<'PYTHON'
import logging
import os
import socket
import threading
import time
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

logging.disable()
print("opentelemetry-exporter-otlp-proto-http", version("opentelemetry-exporter-otlp-proto-http"))
silent = socket.create_server(("127.0.0.1", 0))  # takes connections and says nothing
span = TracerProvider().get_tracer("test").start_span("rerank")
span.end()


def export(setting: str) -> float:
    """Seconds until the exporter gives up; 5 where it has not by then."""
    os.environ["OTEL_EXPORTER_OTLP_TIMEOUT"] = setting
    exporter = OTLPSpanExporter(f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces")
    start = time.monotonic()
    thread = threading.Thread(target=exporter.export, args=([span],), daemon=True)
    thread.start()
    thread.join(5)
    return time.monotonic() - start


for setting in ("1", "500"):
    print(f"OTEL_EXPORTER_OTLP_TIMEOUT={setting}: {export(setting):.1f} s (5.0: not over)")
assert 0.9 < export("1") < 4.5
assert export("500") >= 5
os.environ["OTEL_BSP_SCHEDULE_DELAY"] = "500"
begun = threading.Event()


class Exporter:
    def export(self, spans: object) -> None:
        begun.set()

    def shutdown(self) -> None:
        pass


provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(Exporter()))
provider.get_tracer("test").start_span("rerank").end()
assert begun.wait(4), "OTEL_BSP_SCHEDULE_DELAY=500 is milliseconds"
print("OTEL_BSP_SCHEDULE_DELAY=500: sent within 4 s")
os._exit(0)
PYTHON
