"""Who may call, with what: keys, hashed at rest, each with its rate and what of the engine it may use.

    reshelf key --tenants tenants.yaml --name shop-a --rate 50/second

prints a key once; the file keeps its SHA-256. A change of the file, be it a key, a rate or a `model`, is seen by the
running server within a second.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from reshelf.data.atomic import atomic
from reshelf.errors import InputError
from reshelf.inference.serving.log import log_once_a_minute

_LOOK_S = 1.0
_JUMP_S = 1.0
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class Tenant:
    """A shop."""

    name: str
    key_sha256: str = ""
    """SHA-256 of the key, hexadecimal. Keys are 256 random bits, so a fast hash is enough."""
    rate: str = ""
    """Requests in a time, as in 50/second; empty for no limit."""
    model: str = ""
    """Reranker folder that its lists are ranked by; empty for the server's own."""
    operator: bool = False
    """May read /metrics, and nothing else."""


OPEN = Tenant("open")
"""Whoever reaches a server without tenants."""


@dataclass
class KeyConfig:
    """Make a key for a tenant."""

    tenants: Path
    """YAML file of tenants; made where it is not there."""
    name: str
    """The tenant."""
    rate: str = ""
    """Requests in a time, as in 50/second; empty for no limit."""
    model: Path | None = None
    """Reranker folder that its lists are ranked by; the server's own where not given."""
    operator: bool = False
    """A key for /metrics only."""
    replace: bool = False
    """Make a new key for a tenant that has one; the old one no longer works. Its rate and model stay where no others
    are given."""


def make_key(config: KeyConfig) -> None:
    """Print a new key and write its hash.

    Raises:
        InputError: the file, the name or the rate is not one, or the tenant has a key and `replace` is not given.
    """
    tenants = read_tenants(config.tenants) if config.tenants.exists() else {}
    old = tenants.get(config.name)
    if old and not config.replace:
        raise InputError(
            f"tenant {config.name} in {config.tenants} has a key already; give --replace for a new one, which ends the "
            "old one, or choose another --name"
        )
    key = f"rsh_{secrets.token_urlsafe(32)}"
    made = _checked(
        Tenant(
            config.name,
            _digest(key),
            config.rate or (old.rate if old else ""),
            str(config.model or (old.model if old else "")),
            config.operator or bool(old and old.operator),
        ),
        f"tenant {config.name}",
    )
    tenants = {name: one for name, one in tenants.items() if name != config.name} | {config.name: made}
    with atomic(config.tenants) as partial:
        partial.write_text(yaml.safe_dump({"tenants": [asdict(one) for one in tenants.values()]}, sort_keys=False))
    if old:
        print(f"the key of {config.name} is replaced: the old one no longer works", file=sys.stderr)
    print(key)


def read_tenants(path: Path) -> dict[str, Tenant]:
    """Tenants by name.

    Raises:
        InputError: the file is not there or not one of tenants.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = raw["tenants"]
        found = [_checked(Tenant(**entry), f"{path}, tenant {n + 1}") for n, entry in enumerate(entries)]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"tenants {path}: {error}; make the file with `reshelf key`") from error
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise InputError(f"tenants {path}: not a file of tenants ({error!r}); make it with `reshelf key`") from error
    twice = {one.name for one in found if sum(other.name == one.name for other in found) > 1}
    if twice:
        raise InputError(f"tenants {path}: {', '.join(sorted(twice))} is there twice; remove one")
    return {one.name: one for one in found}


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _checked(one: Tenant, where: str) -> Tenant:
    if not isinstance(one.name, str) or not _NAME.fullmatch(one.name):
        raise InputError(f"{where}: name {one.name!r}; give 1 to 64 letters, digits, _, . or -")
    if not re.fullmatch(r"[0-9a-f]{64}", str(one.key_sha256)):
        raise InputError(f"{where}: key_sha256 is not a SHA-256; make a key with `reshelf key`")
    try:
        if one.rate:
            parse(one.rate)
    except ValueError as error:
        raise InputError(f"{where}: rate {one.rate!r}; give one such as 50/second") from error
    if not isinstance(one.model, str):
        raise InputError(f"{where}: model {one.model!r}; give the folder of a reranker")
    return one


@dataclass
class Tenants:
    """The tenants of a running server; without a file, everybody is one."""

    path: Path | None = None
    _by_digest: dict[str, Tenant] = field(default_factory=dict)
    _limiter: MovingWindowRateLimiter = field(default_factory=lambda: _new_limiter())
    _ahead: float = field(default_factory=lambda: time.time() - time.monotonic())
    """Seconds the wall clock is ahead of the one that never jumps."""
    _seen: tuple[int, int] = (0, 0)
    _looked: float = float("-inf")

    def __post_init__(self) -> None:
        if self.path is not None:
            self._read(self.path)

    def of(self, authorization: str | None) -> Tenant | None:
        """The tenant of a header `Bearer KEY`; None for nobody's."""
        if self.path is None:
            return OPEN
        self._look(self.path)
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        # A digest tells nothing of the key, so finding it by hash table gives no time to measure.
        return self._by_digest.get(_digest(key.strip()))

    def models(self) -> set[str]:
        """Reranker folders that tenants name."""
        if self.path is not None:
            self._look(self.path)
        return {one.model for one in self._by_digest.values() if one.model}

    def wait_s(self, tenant: Tenant) -> float:
        """0 where the tenant may go on, else seconds until it may."""
        if not tenant.rate:
            return 0.0
        rate = parse(tenant.rate)
        ahead = time.time() - time.monotonic()
        if abs(ahead - self._ahead) > _JUMP_S:
            # The limiter counts by the clock on the wall: set back, it would keep tenants out until that is caught up.
            self._limiter = _new_limiter()
        self._ahead = ahead
        if self._limiter.hit(rate, tenant.name):
            return 0.0
        return max(0.001, self._limiter.get_window_stats(rate, tenant.name).reset_time - time.time())

    def _look(self, path: Path) -> None:
        """Read the file again where it has changed; a broken one changes nothing."""
        now = time.monotonic()
        if now - self._looked < _LOOK_S:
            return
        self._looked = now
        try:
            if file_version(path) != self._seen:
                self._read(path)
        except InputError as error:
            log_once_a_minute("tenants file not read", problem=str(error))

    def _read(self, path: Path) -> None:
        # The version from before: a change in between is read the next time.
        seen = file_version(path)
        self._by_digest = {one.key_sha256: one for one in read_tenants(path).values()}
        self._seen = seen


def _new_limiter() -> MovingWindowRateLimiter:
    return MovingWindowRateLimiter(MemoryStorage())


def file_version(path: Path) -> tuple[int, int]:
    """Another one whenever the file was written; (0, 0) where it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_size
