"""Checks of the database: whether it is there, with this release's tables and indexes, and what time it is there."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from cli.checks.findings import Finding, Patient, fine, warning, wrong
from models import inspection, migrate, worker
from models.worker import Worker

APART = timedelta(seconds=2)
FAR_APART = timedelta(seconds=30)
"""Half of the leeway that a token's times have."""
SLOW_START = timedelta(seconds=60)


def database(patient: Patient) -> Iterator[Finding]:
    """It answers, and its tables are those of this release."""
    patient.database.ping()
    revision = migrate.current(patient.database)
    migrate.require(patient.database)
    if revision != migrate.HEAD:
        yield warning(f"The tables are at revision {revision} of a later release; this one's is {migrate.HEAD}.")
    else:
        yield fine(f"{patient.database.dialect} answers, with the tables of this release ({revision}).")


def indexes(patient: Patient) -> Iterator[Finding]:
    """Every index is there, and good for use."""
    with patient.database.reading() as session:
        broken = inspection.broken_indexes(session)
    for index in broken:
        yield wrong(f"The index {index.name} of {index.table} {index.what}. Mend it: {index.remedy}")
    if not broken:
        yield fine("Every index is there.")


def clocks(patient: Patient) -> Iterator[Finding]:
    """The clocks of the database, of this host and of the workers' hosts agree."""
    with patient.database.reading() as session:
        before = datetime.now(UTC)
        theirs = inspection.clock(session)
        after = datetime.now(UTC)
        workers = worker.list_workers(session)
    found = [*_of_this_host(apart(before, theirs, after)), *_of_workers(workers)]
    yield from found or [fine("The clocks of this host, the database and the workers agree.")]


def apart(before: datetime, theirs: datetime, after: datetime) -> timedelta:
    """How far the database's clock is surely ahead of ours, less if behind: it was read between the two moments."""
    return max(theirs - after, timedelta(0)) + min(theirs - before, timedelta(0))


def _of_this_host(difference: timedelta) -> Iterator[Finding]:
    if abs(difference) >= APART:
        way = "ahead of" if difference > timedelta(0) else "behind"
        told = wrong if abs(difference) >= FAR_APART else warning
        yield told(f"The database's clock is {abs(difference).total_seconds():.1f} s {way} this host's. Mend NTP.")


def _of_workers(workers: list[Worker]) -> Iterator[Finding]:
    """A worker's id tells the time at its host when it was born, its row the database's a little later."""
    told = set()
    for one in workers:
        lead = inspection.made_at(one.id) - one.started_at
        if one.host not in told and lead >= APART:
            told.add(one.host)
            yield warning(f"The clock of {one.host} was {lead.total_seconds():.1f} s ahead or more. Mend NTP there.")
        elif one.host not in told and -lead >= SLOW_START:
            told.add(one.host)
            yield warning(
                f"The clock of {one.host} was up to {-lead.total_seconds():.0f} s behind, unless its worker took so "
                "long to reach the database. Mend NTP there."
            )
