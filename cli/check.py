"""`jobmill check`: whether a running installation is well, a line for each finding."""

import sys
from collections.abc import Mapping

import click

import settings
from cli import output
from cli.checks import broker, motion, places, secrets, truth
from cli.checks.findings import Check, Finding, Level, Patient, Thresholds, examine
from cli.failures import EXIT_CODES, Exit
from cli.options import json_option
from cli.visible import visible

CHECKS: Mapping[str, Check] = {
    "database": truth.database,
    "indexes": truth.indexes,
    "clocks": truth.clocks,
    "dispatcher": motion.dispatcher,
    "workers": motion.workers,
    "queues": motion.queues,
    "dead-letters": motion.dead_letters,
    "pruning": motion.pruning,
    "rabbitmq": broker.confirms,
    "rabbitmq-queues": broker.arguments,
    "redis": places.limits,
    "secrets": secrets.given,
    "secret-key": secrets.same_key,
    "api-keys": secrets.expiring,
    "signing-keys": secrets.signing,
    "disk": places.disk,
    "archive": places.archive,
}
"""Every check, by the name its findings are told under; docs/operate/check.md says of each what to do."""
_WIDTH = max(map(len, CHECKS))
CONNECTIONS = 4
"""For all checks together: they shall find out, not be, what takes PostgreSQL's last connections."""


@click.command(epilog=EXIT_CODES)
@click.option("--strict", is_flag=True, help="Exit with 1 for a warning too.")
@click.option(
    "--deadline", type=click.FloatRange(0.1, 300), default=15.0, show_default=True, help="Seconds for all checks."
)
@click.option(
    "--dead-letters", type=click.IntRange(1), default=1000, show_default=True, help="Warn from so many of a type on."
)
@click.option(
    "--dead-days", type=click.FloatRange(0), default=30.0, show_default=True, help="Warn of a dead letter as old."
)
@click.option(
    "--waiting-seconds",
    type=click.FloatRange(0),
    default=300.0,
    show_default=True,
    help="Warn of a queue as far behind.",
)
@json_option
def check(*, strict: bool, deadline: float, as_json: bool, **thresholds: float) -> None:
    """Look whether this installation is well; exit code 1 if something is wrong.

    Run it with the settings of the processes, best on their host.
    """
    limits = Thresholds(int(thresholds.pop("dead_letters")), **thresholds)
    patient = Patient(settings.load(), limits, CONNECTIONS)
    told = [(name, finding) for name, found in examine(CHECKS, patient, deadline) for finding in found]
    worst = max((finding.level for _, finding in told), key=list(Level).index)
    if as_json:
        output.made_document({"status": worst, "findings": [_document(*line) for line in told]})
    else:
        for name, finding in told:
            click.echo(f"{finding.level:7}  {name:{_WIDTH}}  {visible(finding.message)}")
    sys.exit(Exit.REFUSED if worst in _failing(strict=strict) else Exit.DONE)


def _failing(*, strict: bool) -> set[Level]:
    return {Level.WRONG, Level.WARNING} if strict else {Level.WRONG}


def _document(name: str, finding: Finding) -> Mapping[str, str]:
    return {"check": name, "level": finding.level, "message": finding.message}
