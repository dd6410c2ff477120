"""The one wall between tenants: every query over rows that belong to one is confined by this condition."""

from uuid import UUID

from sqlalchemy import ColumnElement, true


def of_tenant(column: ColumnElement[UUID], tenant_id: UUID | None) -> ColumnElement[bool]:
    """That a row is the tenant's. None is an operator of the whole installation, to whom every row is visible."""
    return true() if tenant_id is None else column == tenant_id
