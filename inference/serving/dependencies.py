"""What routes depend on: the service, and who calls.

    async def rerank(body: RerankRequest, tenant: Admitted, service: Served) -> RerankReply: ...

Coroutines throughout: FastAPI runs plain functions in threads.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from reshelf.inference.serving.refusals import RefusedError
from reshelf.inference.serving.service import Service
from reshelf.inference.serving.tenants import Tenant, Tenants


async def current_service(request: Request) -> Service:
    """The application's."""
    service: Service = request.app.state.service
    return service


async def authenticated(request: Request, _: Annotated[Any, Depends(HTTPBearer(auto_error=False))]) -> Tenant:
    """Whose key came with the request."""
    tenants: Tenants = request.app.state.tenants
    tenant = tenants.of(request.headers.get("authorization"))
    if tenant is None:
        raise RefusedError("no such key; send `Authorization: Bearer KEY`", status=401)
    request.state.log["tenant"] = tenant.name
    return tenant


async def admitted(tenant: Annotated[Tenant, Depends(authenticated)]) -> Tenant:
    """A shop; its rates are held before (`RequestMiddleware`)."""
    if tenant.operator:
        raise RefusedError("this key is for /metrics", status=403)
    return tenant


async def operator(request: Request, tenant: Annotated[Tenant, Depends(authenticated)]) -> Tenant:
    """Who may read metrics: an operator, or anybody where there are no tenants."""
    tenants: Tenants = request.app.state.tenants
    if tenants.path is not None and not tenant.operator:
        raise RefusedError("this key is not an operator's (`reshelf key --operator`)", status=403)
    return tenant


Served = Annotated[Service, Depends(current_service)]
Admitted = Annotated[Tenant, Depends(admitted)]
Operator = Annotated[Tenant, Depends(operator)]
