"""Which requests are let in: so many at one time, in fair shares, and each tenant within its rates.

admission = Admission(most=256, rates=Rates())
await admission.within_rate(tenant)
with admission.place(tenant): ...
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from reshelf.inference.serving.rates import Rate, Rates
from reshelf.inference.serving.refusals import RefusedError
from reshelf.inference.serving.tenants import Tenant


class Admission:
    """What a server has let in.

    Args:
        most: requests in flight at one time, of all tenants. Where so many are, a tenant with less than its even share
            is let in still, so that none who fills the house keeps others out of it.
        rates: who went on how fast.
    """

    def __init__(self, most: int, rates: Rates) -> None:
        self._most, self._rates = most, rates
        self._in_flight: Counter[str] = Counter()

    @contextmanager
    def place(self, tenant: Tenant) -> Iterator[None]:
        """For the time of one request.

        Raises:
            RefusedError: there is none.
        """
        own = self._in_flight[tenant.name]
        if tenant.in_flight is not None and own >= tenant.in_flight:
            raise RefusedError(f"more than {tenant.in_flight} requests at once", status=429, wait_s=1)
        share = self._most // (len(self._in_flight) + (not own))
        if self._in_flight.total() >= self._most and own >= share:
            raise RefusedError("too many requests at once", status=429, wait_s=1)
        self._in_flight[tenant.name] += 1
        try:
            yield
        finally:
            self._in_flight[tenant.name] -= 1
            if not self._in_flight[tenant.name]:
                del self._in_flight[tenant.name]

    async def within_rate(self, tenant: Tenant) -> None:
        """Count a request.

        Raises:
            RefusedError: the tenant is above its rate.
        """
        await self._take(tenant, tenant.rate, "requests", 1)

    async def within_candidates(self, tenant: Tenant, candidates: int) -> None:
        """Count a list.

        Raises:
            RefusedError: the tenant is above its rate of candidates.
        """
        await self._take(tenant, tenant.candidates, "candidates", candidates)

    async def _take(self, tenant: Tenant, rate: str, what: str, cost: int) -> None:
        if not rate:
            return
        wait_s = await self._rates.wait_s(f"{tenant.name}:{what}", Rate.parse(rate), cost)
        if wait_s:
            raise RefusedError(f"more {what} than {rate}", status=429, wait_s=wait_s)
