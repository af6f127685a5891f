"""Who may call, with what: keys, hashed at rest, each with its rates and what of the engine it may use.

    reshelf key --tenants tenants.yaml --name shop-a --rate 50/second

prints a key once; the file keeps its SHA-256. A change of the file, be it a key, a rate or a `model`, is seen by the
running server within a second.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from reshelf.data.atomic import atomic
from reshelf.errors import InputError
from reshelf.inference.experiments import Experiment
from reshelf.inference.rules import Rules
from reshelf.inference.serving.log import audit, log_once_a_minute
from reshelf.inference.serving.rates import Rate, duration_s
from reshelf.inference.serving.refusals import field_name
from reshelf.ranges import AT_LEAST_1, check_numbers
from reshelf.yaml_loader import UniqueKeyLoader

_LOOK_S = 1.0


def _checked_rate(text: str) -> str:
    if text:
        Rate.parse(text)
    return text


def _no_number(value: Any) -> Any:
    """20271231 would be seconds since 1970."""
    if isinstance(value, int | float):
        raise ValueError("no time; give one such as 2027-12-31T00:00:00Z")
    return value


RateText = Annotated[str, AfterValidator(_checked_rate)]


class Key(BaseModel):
    """What proves who calls."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Hexadecimal. Keys are 256 random bits, so a fast hash is enough."""
    expires: Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_no_number)] | None = None
    """From then on it no longer works."""


class Tenant(BaseModel):
    """A shop."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    keys: Annotated[list[Key], Field(max_length=2)]
    """One, or two while the one takes the other's place."""
    rate: RateText = ""
    """Most requests, as in 50/second; empty for no limit."""
    candidates: RateText = ""
    """Most documents to rank, as in 5000/second; empty for no limit."""
    in_flight: Annotated[int, Field(ge=1)] | None = None
    """Requests at one time; None for its share of `limits.requests`."""
    model: str = ""
    """Reranker folder that its lists are ranked by; empty for the server's own."""
    personalization: Annotated[float, Field(ge=0, le=1)] = 1.0
    """How much of an order is the model's, where a request does not say."""
    rules: Rules | None = None
    """What its merchandisers ask for, in every list."""
    experiment: Experiment | None = None
    """What it tries out."""
    operator: bool = False
    """May read /metrics, and nothing else."""

    @model_validator(mode="before")
    @classmethod
    def _with_keys(cls, value: Any) -> Any:
        """A file from before there could be two keys."""
        if isinstance(value, dict) and "key_sha256" in value and "keys" not in value:
            rest = {name: one for name, one in value.items() if name != "key_sha256"}
            return rest | {"keys": [{"sha256": value["key_sha256"]}]}
        return value


class TenantsFile(BaseModel):
    """What the file holds."""

    model_config = ConfigDict(strict=True, extra="forbid")

    tenants: list[Tenant]


OPEN = Tenant(name="open", keys=[])
"""Whoever reaches a server without tenants."""


@dataclass
class KeyConfig:
    """Make a key for a tenant."""

    tenants: Path
    """YAML file of tenants; made where it is not there."""
    name: str
    """The tenant."""
    rate: str = ""
    """Most requests, as in 50/second; empty for no limit."""
    candidates: str = ""
    """Most documents to rank, as in 5000/second; empty for no limit."""
    in_flight: int | None = None
    """Most requests in flight at once; where not given, its even share of the server's limit (`limits.requests`)."""
    model: Path | None = None
    """Reranker folder that its lists are ranked by; the server's own where not given."""
    operator: bool = False
    """A key for /metrics only."""
    replace: bool = False
    """Make a new key for a tenant that has one. Its limits and model stay where no others are given."""
    overlap: str = ""
    """With `replace`, how long the old key still works, as in 7d; empty to end it now."""
    expires: str = ""
    """How long the new key works, as in 90d; empty for ever."""

    def __post_init__(self) -> None:
        check_numbers(self, {"in_flight": AT_LEAST_1})


def make_key(config: KeyConfig) -> None:
    """Print a new key and write its hash.

    Raises:
        InputError: the file, or what is asked for, is not right, or the tenant has a key and `replace` is not given.
    """
    key = f"rsh_{secrets.token_urlsafe(32)}"
    with _locked(config.tenants):
        tenants = read_tenants(config.tenants) if config.tenants.exists() else {}
        old = tenants.get(config.name)
        if old and not config.replace:
            raise InputError(
                f"tenant {config.name} in {config.tenants} has a key already; give --replace for a new one, which ends "
                "the old one (--overlap 7d: in a week), or choose another --name"
            )
        keys: list[dict[str, Any]] = [{"sha256": _digest(key), "expires": _until(config.expires, "expires")}]
        if old and config.overlap:
            end = _until(config.overlap, "overlap")
            keys.append({"sha256": old.keys[0].sha256, "expires": min(filter(None, (end, old.keys[0].expires)))})
        settings = {
            "rate": config.rate, "candidates": config.candidates, "in_flight": config.in_flight,
            "model": "" if config.model is None else str(config.model), "operator": config.operator,
        }  # fmt: skip
        before = old.model_dump() if old else {}
        settings = {name: value for name, value in settings.items() if value or name not in before}
        try:
            made = Tenant.model_validate({**before, "name": config.name, "keys": keys, **settings})
        except ValidationError as error:
            raise InputError(f"tenant {config.name}, {_problem(error)}") from error
        entries = [*(one for one in tenants.values() if one.name != config.name), made]
        written = [one.model_dump(mode="json", exclude_none=True, exclude_defaults=True) for one in entries]
        text = yaml.safe_dump({"tenants": written}, sort_keys=False)
        with atomic(config.tenants) as partial:
            partial.write_text(text, encoding="utf-8")
    if old:
        ends = f"works for {config.overlap} more" if config.overlap else "no longer works"
        print(f"the key of {config.name} is replaced: the old one {ends}", file=sys.stderr)
    print(key)


def read_tenants(path: Path) -> dict[str, Tenant]:
    """Tenants by name.

    Raises:
        InputError: the file is not there or not one of tenants.
    """
    try:
        if path.exists() and not path.is_file():  # who opens a pipe waits for ever
            raise OSError("a folder or a pipe, no file")
        raw = yaml.load(path.read_text(encoding="utf-8"), UniqueKeyLoader)
        found = TenantsFile.model_validate(raw).tenants
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"tenants {path}: {error}; make the file with `reshelf key`") from error
    except ValidationError as error:
        raise InputError(f"tenants {path}, {_problem(error)}; correct it, or make it with `reshelf key`") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"tenants {path}: not a file of tenants ({said}); make it with `reshelf key`") from error
    if twice := [name for name, count in Counter(one.name for one in found).items() if count > 1]:
        raise InputError(f"tenants {path}: {', '.join(sorted(twice))} is there twice; remove one")
    owners: dict[str, str] = {}
    for one in found:
        for key in one.keys:
            if (other := owners.setdefault(key.sha256, one.name)) is not one.name or one.keys.count(key) > 1:
                raise InputError(f"tenants {path}: {one.name} has a key that {other} has too; make a new one for each")
    return {one.name: one for one in found}


def _problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    said = f" ({first['input']!r})" if isinstance(first["input"], str | int | float) else ""
    return f"{field_name(first['loc']) or 'its content'}: {first['msg'].removeprefix('Value error, ')}{said}"


def _until(length: str, flag: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(time.time() + duration_s(length), UTC).replace(microsecond=0) if length else None
    except (ValueError, OverflowError) as error:
        raise InputError(f"{flag} {length!r}: {error}") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Nobody else changes the file meanwhile. The lock stays beside it: removing it would let two in."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock").open("a")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another file") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass
class Tenants:
    """The tenants of a running server; without a file, everybody is one. `watch` sees changes of the file."""

    path: Path | None = None
    everybody: Tenant = OPEN
    """Who all are, without a file."""
    problem: str = ""
    """Why the file as it is now cannot be used; the tenants are those of before."""
    _by_digest: dict[str, tuple[Tenant, Key]] = field(default_factory=dict)
    _seen: tuple[int, ...] = ()
    """Version of the file that was read last, whether it could be used or not."""

    def __post_init__(self) -> None:
        if self.path is not None:
            self._seen = file_version(self.path)
            self._by_digest = _by_digest(self.path)

    async def watch(self) -> None:
        """Read the file again, in a thread, whenever it changes: one of thousands of tenants takes a second."""
        while self.path is not None:
            await asyncio.sleep(_LOOK_S)
            await asyncio.to_thread(self._look, self.path)

    def of(self, authorization: str | None) -> Tenant | None:
        """The tenant of a header `Bearer KEY`; None for nobody's."""
        if self.path is None:
            return self.everybody
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        # A digest tells nothing of the key, so finding it by hash table gives no time to measure.
        tenant, found = self._by_digest.get(_digest(key.strip()), (None, None))
        if found is not None and found.expires is not None and found.expires <= datetime.now(UTC):
            return None
        return tenant

    @property
    def names(self) -> set[str]:
        """Of all tenants."""
        named = [self.everybody] if self.path is None else [tenant for tenant, _ in self._by_digest.values()]
        return {tenant.name for tenant in named}

    def models(self) -> set[str]:
        """Reranker folders that tenants and their experiments name."""
        tenants = [self.everybody, *(tenant for tenant, _ in self._by_digest.values())]
        named = {tenant.model for tenant in tenants if tenant.model}
        return named.union(*(tenant.experiment.models for tenant in tenants if tenant.experiment is not None))

    def _look(self, path: Path) -> None:
        """Read the file where it has changed; a broken one changes nothing, and is said every minute."""
        # The version from before: a change in between is read the next time.
        if (seen := file_version(path)) != self._seen:
            self._seen = seen
            try:
                before, self._by_digest = self._by_digest, _by_digest(path)
                self.problem = ""
                _audit_changes(before, self._by_digest)
            except InputError as error:
                self.problem = str(error)
        if self.problem:
            log_once_a_minute("tenants file not read", problem=self.problem)


def _by_digest(path: Path) -> dict[str, tuple[Tenant, Key]]:
    return {key.sha256: (one, key) for one in read_tenants(path).values() for key in one.keys}


def _audit_changes(before: dict[str, tuple[Tenant, Key]], now: dict[str, tuple[Tenant, Key]]) -> None:
    for change, some, others in (("key added", now, before), ("key removed", before, now)):
        for digest in some.keys() - others.keys():
            audit(change, tenant=some[digest][0].name, key_sha256=digest[:8])


def file_version(path: Path) -> tuple[int, ...]:
    """Another one whenever the file was written, or may be read that could not be; () where it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return ()
    return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino
