"""Checks of RabbitMQ: whether each node confirms what it is given, and the queues are as this release needs them."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from cli import compose
from cli.checks.findings import Finding, Patient, fine, reason, warning, wrong

NOT_NEEDED = "Not needed in the embedded mode."


def confirms(patient: Patient) -> Iterator[Finding]:
    """Each node takes a message, confirms it and gives it back."""
    if patient.settings.embedded:
        yield fine(NOT_NEEDED)
        return
    urls = compose.brokers(patient.settings, "check")
    failures = {url: told for url in urls if (told := _failure(url))}
    lost = len(failures) == len(urls)
    for url, told in failures.items():
        yield (wrong if lost else warning)(f"RabbitMQ at {_place(url)} confirms nothing: {told}")
    if not lost:
        yield fine(f"RabbitMQ confirms and delivers ({len(urls) - len(failures)} of {len(urls)} nodes).")


def _failure(url: str) -> str | None:
    from workers import probe, topology

    try:
        probe.confirms(url)
    except topology.BROKER_ERRORS as error:
        return reason(error)
    return None


def _place(url: str) -> str:
    """Host and port, without user and password."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (5671 if parts.scheme == 'amqps' else 5672)}"


def arguments(patient: Patient) -> Iterator[Finding]:
    """Each queue that exists has the arguments that this release needs."""
    if patient.settings.embedded:
        yield fine(NOT_NEEDED)
        return
    from workers import drift
    from workers.dispatcher import served_queues

    urls = compose.brokers(patient.settings, "check")
    names = compose.queue_names(
        patient.settings, served_queues(patient.database, compose.served_queues(patient.settings))
    )
    found = drift.drifted(urls, names)
    yield from (wrong(str(queue)) for queue in found)
    if not found:
        yield fine(f"The queues are as they should be ({len(names)} looked at).")
