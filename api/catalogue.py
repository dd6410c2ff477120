"""The doors to what this installation can do and who does it: job types and workers."""

from flask import Blueprint

from api.documents import JobTypeDocument, WorkerDocument, job_type_document, worker_document
from api.endpoint import Call, Reply, endpoint
from api.lists import ListQuery, page, page_by_name
from api.problems import Problem
from jobs.registry import UnknownJobType
from jobs.scopes import Scope
from models import worker

blueprint = Blueprint("catalogue", __name__, url_prefix="/v1")

TYPE_NAME = {"name": {"description": "The type's name.", "examples": ["csv.profile"]}}


@endpoint(blueprint, "GET", "/job-types", scope=Scope.JOBS_READ, query=ListQuery, lists=JobTypeDocument)
def list_job_types(call: Call) -> Reply:
    """Every job type that this installation knows, by name."""
    known = call.services.registry.offered()
    return page_by_name(
        call,
        "job types",
        lambda after, limit: [one for one in known if after is None or one.name > after][:limit],
        lambda job_type: job_type.name,
        job_type_document,
    )


@endpoint(blueprint, "GET", "/job-types/<name>", scope=Scope.JOBS_READ, path=TYPE_NAME, reply=JobTypeDocument)
def get_job_type(call: Call, name: str) -> Reply:
    """One job type."""
    try:
        return Reply(job_type_document(call.services.registry.get(name)))
    except UnknownJobType:
        raise Problem("not-found", f"There is no job type {name[:100]!r}.") from None


@endpoint(blueprint, "GET", "/workers", scope=Scope.QUEUES_READ, query=ListQuery, lists=WorkerDocument)
def list_workers(call: Call) -> Reply:
    """Worker processes that live or lately did, newest first."""
    return page(
        call,
        "workers",
        lambda before, limit: worker.list_workers(call.session, limit, before=before),
        lambda known: known.id,
        worker_document,
    )
