"""The wall between tenants, for reads that a platform key may make of all of them."""

from uuid import UUID

from sqlalchemy import ColumnElement, true


def of_tenant(column: ColumnElement[UUID], tenant_id: UUID | None) -> ColumnElement[bool]:
    """That a row is the tenant's. None is an operator of the whole installation, to whom every row is visible."""
    return true() if tenant_id is None else column == tenant_id
