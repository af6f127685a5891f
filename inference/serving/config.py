"""The config of `reshelf serve`.

reshelf serve runs/demo/model --data runs/demo/data
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from reshelf.errors import InputError
from reshelf.inference.engines.engine import EngineName
from reshelf.inference.serving.history import REDIS
from reshelf.inference.serving.rates import duration_s
from reshelf.modeling.precision import Precision
from reshelf.ranges import AT_LEAST_0, AT_LEAST_1, LIST_LENGTH, POSITIVE, SHARE, Range, check_numbers


@dataclass
class LimitsConfig:
    """What one request may hold, and how much of it all at once. What is above is refused with its field."""

    body_bytes: int = 4_000_000
    """Bytes of a request's body."""
    candidates: int = 1000
    """Documents of a list; at most 10,000."""
    text: int = 20_000
    """Characters of one text: a query, a title, a description, an id; and of an event with its item."""
    history: int = 1000
    """Events of a request; at most 10,000."""
    requests: int = 256
    """Requests in flight at one time; more are answered 429 with Retry-After, but for a tenant with less than its
    even share of them."""
    deadline_ms: float = 60_000.0
    """The largest deadline that a request may ask for."""
    connections: int = 1024
    """Connections at one time; above it the one that has waited longest without a whole request is closed."""
    read_s: float = 10.0
    """Seconds in which a request must be there, header and body, and a large reply be taken."""
    waiting: int = 64
    """Lists that wait for the engine; where as many wait, the reply is first-stage order."""

    def __post_init__(self) -> None:
        lengths = {"candidates": LIST_LENGTH, "history": LIST_LENGTH}
        check_numbers(self, dict.fromkeys(vars(self), AT_LEAST_1) | lengths, "limits.")


@dataclass
class ServeConfig:
    """Serve a reranker over HTTP."""

    model: Path
    """Reranker folder that `reshelf finetune` wrote."""
    data: Path | None = None
    """Data set folder whose items.parquet is the catalogue: documents and events may then be ids alone."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for every one, which needs `tenants`."""
    port: int = 8000
    """Port to listen on; 0 for any free one."""
    uds: Path | None = None
    """Listen on this Unix socket in place of a port; for the server's own user and group."""
    tls_cert: Path | None = None
    """Serve https: PEM file of the certificate and of those between it and its root. A renewed one is seen."""
    tls_key: Path | None = None
    """PEM file of the certificate's key, without a passphrase; where it is not in the same file."""
    engine: EngineName = "auto"
    """auto is the faster one here by `reshelf engines`; where that was not run, vLLM if it is
    installed and there is a GPU, else transformers."""
    precision: Precision = "auto"
    """In which numbers scores are computed: float32, bfloat16, or nf4 (the 4 bits it was trained over, least memory);
    auto is bfloat16 where it was trained in that and the device multiplies it fast, else float32."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model; only for authors you trust. A model cannot ask for it."""
    history: str = "reshelf_history.sqlite"
    """Where shoppers' events are kept: a SQLite file, or the redis:// address of a Redis that servers share."""
    redis_password_file: Path | None = None
    """File of one line with the password of that Redis; a changed one is for the connections that follow."""
    hosts: list[str] = field(default_factory=list)
    """Names that it is called by (`Host`); any where there are tenants and none are given, else this machine's own: a
    web page that resolves its own name to this machine is not served."""
    origins: list[str] = field(default_factory=list)
    """Other sites, as https://shop.example, whose pages may call it from a browser."""
    ui: bool = True
    """Serve the page at /ui."""
    docs: bool = True
    """Serve the description of the routes, at /docs and /openapi.json."""
    tenants: Path | None = None
    """YAML file of keys (`reshelf key`); without one, who reaches the port is served."""
    experiment: Path | None = None
    """YAML file of an experiment, where there are no tenants; theirs are in their entries."""
    served_lists: Path | None = None
    """Folder to log served lists in, as Parquet without texts and names; servers may share it. Empty for no log."""
    served_keep: str = ""
    """How long a file of that log is kept, as in 90d; empty for as long as there is room."""
    served_gb: float = 10.0
    """Gigabytes that the log may take; then its oldest files go."""
    personalization: float = 1.0
    """How much of an order is the model's where a request does not say, from 0 (first-stage order) to 1; tenants have
    their own."""
    deadline_ms: float = 1000.0
    """A reply is due this long after the request where the request does not say; then it is first-stage order."""
    kept_events: int = 500
    """Latest events kept of a shopper."""
    keep: str = ""
    """How long an event is kept, as in 400d; empty for as long as it is among the latest."""
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    """Sizes and load."""
    stuck_s: float = 30.0
    """An engine that gets no further for so many seconds while a list waits is killed and started again; for long lists
    it has more time, by its own pace."""
    start_s: float = 1800.0
    """An engine that has not started after so long is killed and started again."""
    keep_alive_s: float = 75.0
    """An idle connection is kept so long: longer than the load balancer before it does, many of which keep it 60 s."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged of the service; a line per request at info."""
    traces: str = ""
    """URL of an OTLP receiver, as http://localhost:4318, that is sent OpenTelemetry traces; empty for none."""
    drain_s: float = 0.0
    """After SIGTERM, /ready says 503 for so long while everything is served still: longer than a load balancer takes to
    see it. A second signal ends that."""
    shutdown_s: float = 10.0
    """After that, requests already accepted have so long to finish."""

    def __post_init__(self) -> None:
        above_0 = ("deadline_ms", "stuck_s", "start_s", "shutdown_s", "keep_alive_s", "served_gb")
        others = {"port": Range(0, 65535), "personalization": SHARE, "drain_s": AT_LEAST_0, "kept_events": AT_LEAST_1}
        check_numbers(self, {**dict.fromkeys(above_0, POSITIVE), **others})
        for name in ("keep", "served_keep"):
            if value := getattr(self, name):
                try:
                    duration_s(value)
                except ValueError as error:
                    raise InputError(f"{name} {value!r}: {error}") from error
        if self.tenants is not None and self.experiment is not None:
            raise InputError("experiment is for a server without tenants; put it into the tenant's entry instead")
        if self.tenants is not None and self.personalization != 1:
            raise InputError("personalization is for a server without tenants; put it into the tenant's entry instead")
        if self.tls_key is not None and self.tls_cert is None:
            raise InputError("tls_key has no tls_cert; give the certificate too")
        if self.uds is not None and self.tls_cert is not None:
            raise InputError("uds is a socket of this machine, which tls_cert is not for; give one of the two")
        if self.redis_password_file is not None and not self.history.startswith(REDIS):
            raise InputError("redis_password_file is for a history in Redis; give its redis:// address with history")
        if self.tenants is None and self.host not in ("127.0.0.1", "localhost", "::1"):
            raise InputError(
                f"host is {self.host}, which others can reach: give tenants a file of keys (`reshelf key`)"
            )
