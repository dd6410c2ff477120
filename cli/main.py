"""The `jobmill` command: its subcommands by place, and how errors that can be expected end."""

import re
from typing import Any

import click

from cli.failures import EXIT_CODES, Interrupted, told
from cli.lazy import Lazy, LazyGroup

COMMANDS = {
    "up": Lazy("cli.processes:up", "Run everything in one process, on SQLite."),
    "api": Lazy("cli.processes:api", "Run the HTTP API."),
    "dispatcher": Lazy("cli.processes:dispatcher", "Run the dispatcher."),
    "worker": Lazy("cli.processes:worker", "Run a worker."),
    "db": Lazy("cli.processes:db", "Make and check the database's tables."),
    "check": Lazy("cli.check:check", "See whether a running installation is well."),
    "jobs": Lazy("cli.jobs:jobs", "Submit, watch and cancel jobs."),
    "dead": Lazy("cli.dead:dead", "See what failed for good; mend, replay or discard it."),
    "redrive": Lazy("cli.redrive:redrive", "Replay or discard dead letters by the thousand."),
    "queues": Lazy("cli.queues:queues", "See what waits where; pause, resume and limit it."),
    "webhooks": Lazy("cli.webhooks:webhooks", "Have the ends of jobs told to a URL."),
    "undeliverable": Lazy("cli.undeliverable:undeliverable", "See and discard messages that are of no job."),
    "job-types": Lazy("cli.job_types:job_types", "See which types of job there are."),
    "workers": Lazy("cli.workers:workers", "See who does the work."),
    "openapi": Lazy("cli.openapi:openapi", "Print the description of the HTTP API."),
    "keys": Lazy("cli.keys:keys", "Make and revoke API keys (on the database)."),
    "signing-keys": Lazy("cli.signing_keys:group", "Rotate the keys that sign tokens (on the database)."),
    "secret-key": Lazy("cli.secret_key:group", "Change the installation's secret key (on the database)."),
    "tenants": Lazy("cli.tenants:tenants", "Make, list and weigh tenants (on the database)."),
}

# Not for people, and so without a line in the help.
INNER = {"worker-child": Lazy("cli.processes:worker_child")}

# How Python hands on bytes of the command line that are not UTF-8; no request or table can hold them.
_BYTES = re.compile("[\ud800-\udfff]")


class Jobmill(LazyGroup):
    """The outermost group: here every expected error becomes one clear line and an exit code."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the words of the command line."""
        if any(_BYTES.search(word) for word in args):
            raise click.UsageError("The command line is not UTF-8.", ctx)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted("Stopped by Ctrl-C.") from None
        except Exception as error:
            if failure := told(error):
                raise failure from None
            raise


@click.group(
    cls=Jobmill, lazy=COMMANDS | INNER, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="jobmill", prog_name="jobmill", message="%(prog)s %(version)s")
def main() -> None:
    """Run jobs that cannot be lost, and look after them."""


if __name__ == "__main__":
    main()
