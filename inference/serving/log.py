"""Log lines as JSON, one per line, on standard error. No text, key or id of a shopper is ever in one.

logger.info("reranked", extra={"request_id": request_id, "user": hashed(user_id)})
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from typing import Any

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


def log_as_json(level: int = logging.INFO) -> None:
    """All of this process's logging."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("reshelf.serving").setLevel(level)
