"""The doors to what this installation can do and who does it: job types and workers."""

from flask import Blueprint

from api.documents import JobTypeDocument, WorkerDocument, job_type_document, worker_document
from api.endpoint import Call, Reply, endpoint
from api.problems import Problem
from jobs.registry import UnknownJobType
from jobs.scopes import Scope
from models import worker

blueprint = Blueprint("catalogue", __name__, url_prefix="/v1")


@endpoint(blueprint, "GET", "/job-types", scope=Scope.JOBS_READ, lists=JobTypeDocument)
def list_job_types(call: Call) -> Reply:
    """Every job type, by name; there are as many as the installation's code declares, so no pages."""
    types = call.services.registry.all()
    return Reply({"data": [job_type_document(job_type) for job_type in types], "next_cursor": None})


@endpoint(blueprint, "GET", "/job-types/<name>", scope=Scope.JOBS_READ, reply=JobTypeDocument)
def get_job_type(call: Call, name: str) -> Reply:
    """One job type."""
    try:
        return Reply(job_type_document(call.services.registry.get(name)))
    except UnknownJobType:
        raise Problem("not-found", f"There is no job type {name[:100]!r}.") from None


@endpoint(blueprint, "GET", "/workers", scope=Scope.QUEUES_READ, lists=WorkerDocument)
def list_workers(call: Call) -> Reply:
    """Worker processes that live or lately did."""
    workers = worker.list_workers(call.session)
    return Reply({"data": [worker_document(known) for known in workers], "next_cursor": None})
