"""The door to the audit log: who changed what, and from where."""

from flask import Blueprint

from api.endpoint import Call, Reply, endpoint
from api.identity_documents import AuditEntryDocument, audit_entry_document
from api.lists import ListQuery, page
from jobs.scopes import Scope
from models import audit

blueprint = Blueprint("audit_log", __name__, url_prefix="/v1/audit-log")


@endpoint(blueprint, "GET", "", scope=Scope.AUDIT_READ, query=ListQuery, lists=AuditEntryDocument)
def list_audit_log(call: Call) -> Reply:
    """Who changed what, newest first. Submitting is no change: a job tells of itself."""
    return page(
        call,
        "audit log",
        lambda before, limit: audit.list_entries(call.session, call.principal.tenant_id, before, limit),
        lambda entry: entry.id,
        audit_entry_document,
    )
