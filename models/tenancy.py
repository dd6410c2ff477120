"""The wall between tenants, for reads that a platform key may make of all of them."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import ColumnElement, Uuid, func, true


def of_tenant(column: ColumnElement[UUID], tenant_id: UUID | ColumnElement[UUID] | None) -> ColumnElement[bool]:
    """That a row is the tenant's. None is an operator of the whole installation, to whom every row is visible."""
    return true() if tenant_id is None else column == tenant_id


def of_tenants(column: ColumnElement[UUID], tenant_ids: Collection[UUID]) -> ColumnElement[bool]:
    """That a row is of one of those tenants, for what is done for several at once."""
    return column.in_(tenant_ids)


def within_tenant(column: ColumnElement[UUID], tenant_id: UUID | None) -> ColumnElement[bool]:
    """The same as `of_tenant`, said as a range, for an index in which the tenant comes behind other columns.

    One that begins with the tenant, and holds its finished jobs as well, would else seem as good.
    """
    return true() if tenant_id is None else column.between(tenant_id, tenant_id)


def beside_tenant(column: ColumnElement[UUID], tenant_id: UUID | None) -> ColumnElement[bool]:
    """The same as `of_tenant`, of rows that are found by something narrower; written so that no index answers it."""
    return true() if tenant_id is None else func.coalesce(column, column, type_=Uuid()) == tenant_id


def behind_tenant(column: ColumnElement[UUID], tenant_id: UUID | ColumnElement[UUID] | None) -> ColumnElement[bool]:
    """That a row is of a tenant behind that one, for those who go from tenant to tenant; None begins."""
    return true() if tenant_id is None else column > tenant_id
