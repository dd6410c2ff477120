"""What `jobmill up` tells a person: where it serves, how to try it, and for `make run` a first job at work."""

import time
from pathlib import Path

import click

from cli.embedded import Running
from jobmill_client import Client, Job

DEADLINE_SECONDS = 60.0
_LOOK_EVERY = 0.02


def show(running: Running, file: Path) -> None:
    """Submit a csv.profile of `file` over HTTP, and show each state it passes through and its result."""
    click.echo(f"Submitting a csv.profile job of {file} ...")
    with Client(running.address, running.token) as client:
        job = _follow(client.submit("csv.profile", {"text": file.read_text(encoding="utf-8")}))
    click.echo()
    _show_result(job)


def tell_where(running: Running) -> None:
    """Print the address, the key when it is new or where it is kept, and three things to try."""
    if running.new:
        click.echo(f"\nA new API key, shown only now and kept in {running.key_file}:\n  {running.token}")
    key = f"$(cat {running.key_file})" if running.key_file else "$JOBMILL_BOOTSTRAP_API_KEY"
    header = f'-H "Authorization: Bearer {key}"'
    body = '{"type": "demo.sleep", "args": {"seconds": 5}}'
    click.echo(
        f"""
Jobmill serves on {running.address}

Try, in another terminal here:
  curl -s {running.address}/v1/job-types {header}
  curl -s {running.address}/v1/jobs {header} -H 'Content-Type: application/json' -d '{body}'
  curl -s '{running.address}/v1/jobs?limit=3' {header}

Ctrl-C stops it: jobs that run may finish, the others wait for the next start."""
    )


def _follow(job: Job) -> Job:
    """Print each state as it comes; raises ClickException when the job does not end."""
    began, seen = time.monotonic(), ""
    while time.monotonic() - began < DEADLINE_SECONDS:
        if job.state != seen:
            seen = job.state
            click.echo(f"  {(time.monotonic() - began) * 1000:6.0f} ms  {seen}")
        if job.final:
            return job
        time.sleep(_LOOK_EVERY)
        job = job.refresh()
    raise click.ClickException(f"Job {job.id} is still {seen} after {DEADLINE_SECONDS:g} s; see the log above.")


def _show_result(job: Job) -> None:
    if not job.succeeded:
        raise click.ClickException(f"Job {job.id} ended as {job.state}: {job.error}")
    click.echo(f"  {job.returned['rows']} rows")
    for column in job.returned["columns"]:
        numbers = "" if column["mean"] is None else f"{column['min']} to {column['max']}, mean {column['mean']:.3f}"
        click.echo(f"  {column['name']:<14} {column['type']:<8} {column['distinct']} distinct  {numbers}")
