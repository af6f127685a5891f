"""Log lines as JSON, one per line, on standard error. No text, key or id of a shopper is ever in one.

    logger.info("reranked", extra={"request_id": request_id, "user": hashed(user_id)})
    log_once_a_minute("history store failed", problem=str(error))

Logging never waits: where nobody reads standard error, lines are dropped, and counted when it is read again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import queue
import secrets
import threading
import time
from typing import Any

logger = logging.getLogger("reshelf.serving")
_audit = logging.getLogger("reshelf.audit")
_LINES = 10_000
"""That wait to be written; some 3 MB."""
_FLUSH_S = 1.0
_STDERR = 2
_SELDOM_S = 60.0
_SALT = secrets.token_bytes(16)
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def hashed(name: str | None) -> str | None:
    """The same for the same id as long as this server runs, and of no use elsewhere."""
    return None if name is None else hashlib.blake2b(name.encode(), key=_SALT, digest_size=8).hexdigest()


class JsonLines(logging.Formatter):
    """A record's message and what was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {"time": f"{when}.{int(record.msecs):03d}Z", "level": record.levelname.lower()}
        line |= {"message": record.getMessage()} | {k: v for k, v in vars(record).items() if k not in _PLAIN}
        if record.exc_info is not None and record.exc_info[0] is not None:
            # Where it happened, not what was said: a message may quote the request.
            line["error"] = record.exc_info[0].__name__
            trace = record.exc_info[2]
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            if trace is not None:
                line["where"] = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        return json.dumps(line, default=str)


class DroppingHandler(logging.Handler):
    """Writes lines to a file descriptor in a thread, and drops those that come while too many wait.

    It writes past Python's own buffers: their locks, held by a thread that waits for a reader, would keep the process
    from ending.
    """

    def __init__(self, descriptor: int, waiting: int = _LINES) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes] = queue.Queue(waiting)
        self._dropped = 0
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            if self._dropped and not self._lines.full():
                dropped, self._dropped = self._dropped, 0
                notice = logging.makeLogRecord({"name": __name__, "levelname": "WARNING", "dropped": dropped})
                notice.msg = "log lines dropped"
                line = f"{self.format(notice)}\n{line}"
            self._lines.put_nowait(f"{line}\n".encode())
        except queue.Full:
            self._dropped += 1
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Give the lines that wait a moment."""
        end = time.monotonic() + _FLUSH_S
        while self._lines.unfinished_tasks and time.monotonic() < end:
            time.sleep(0.005)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:  # closed: nobody will ever read it
                self._dropped += 1
            self._lines.task_done()


_said: dict[str, tuple[float, int]] = {}


def log_once_a_minute(message: str, **extra: Any) -> None:
    """A warning that is not written again for a minute; then with `repeated`, how often it came meanwhile."""
    now = time.monotonic()
    last, repeated = _said.get(message, (-_SELDOM_S, 0))
    if now - last < _SELDOM_S:
        _said[message] = last, repeated + 1
        return
    _said[message] = now, 0
    logger.warning(message, extra=extra | ({"repeated": repeated} if repeated else {}))


def audit(action: str, **extra: Any) -> None:
    """A line for who must account for keys and for shoppers' data, whatever the log's level."""
    _audit.info("audit", extra={"action": action} | extra)


def log_as_json(level: str = "info") -> None:
    """All of this process's logging."""
    handler = DroppingHandler(_STDERR)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logger.setLevel(level.upper())
    _audit.setLevel(logging.INFO)
