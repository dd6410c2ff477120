"""Take one guard after another out of a copy of the tree, and see the tests fail that are named for it.

A guard whose tests still pass without it is not tested, and a mutation whose text is no longer in its file tests
nothing: both end this with status 1. `make mutants` runs all, `python bin/mutate.py lease` those with that word.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_SECONDS = 300
MOVES = "tests/integration/test_moves_matrix.py::"
RULES = "tests/integration/test_moves_rules.py::"
RACES = "tests/integration/test_races.py::"
EXECUTOR = "tests/integration/test_executor.py::"
ALONE = "tests/integration/test_alone.py::"
BROKER = "tests/integration/test_broker.py::"
DUTIES = "tests/integration/test_duties.py::"
DATABASE = "tests/integration/test_database.py::"


@dataclass(frozen=True)
class Mutant:
    """A guard, the edit that takes it out, and the tests that must fail then. Those that are `quick` run in CI."""

    guard: str
    file: str
    text: str
    instead: str
    tests: tuple[str, ...]
    quick: bool = True

    def __str__(self) -> str:
        return self.guard


MUTANTS = (
    Mutant(
        "a move looks at the lease",
        "models/moves/frame.py",
        "_c.lease == rows.c.lease, in_source_of(move)",
        "in_source_of(move)",
        (MOVES + "test_a_move_under_another_lease_changes_nothing",),
    ),
    Mutant(
        "a move looks at the state",
        "models/moves/frame.py",
        "_c.lease == rows.c.lease, in_source_of(move)",
        "_c.lease == rows.c.lease",
        (MOVES + "test_a_move_from_any_other_state_changes_nothing",),
    ),
    Mutant(
        "a claim raises the lease",
        "models/moves/dispatching.py",
        "lease=_c.lease + 1",
        "lease=_c.lease",
        (MOVES + "test_a_move_takes_a_job_from_its_source_to_its_target",),
        quick=False,
    ),
    Mutant(
        "a retry leaves alone what is to be cancelled",
        "models/moves/finishing.py",
        "_c.cancel_requested_at.is_(None))\n        .values(\n            state=State.QUEUED,\n            error",
        "True)\n        .values(\n            state=State.QUEUED,\n            error",
        (MOVES + "test_a_job_whose_cancellation_was_asked_for_is_not_put_back",),
        quick=False,
    ),
    Mutant(
        "a redrive leaves alone what shares its key with an unfinished job",
        "models/moves/operating.py",
        "rows.c.place == 1, ~held",
        "rows.c.place == 1",
        (RULES + "test_a_dead_job_whose_unique_key_is_held_stays_dead",),
        quick=False,
    ),
    Mutant(
        "claims pass over rows that others lock (SKIP LOCKED)",
        "models/dialect.py",
        "with_for_update(skip_locked=True)",
        "with_for_update()",
        (RACES + "test_a_claimer_is_not_held_up_by_another_s_open_claim",),
    ),
    Mutant(
        "a prune looks at the state again when it deletes",
        "models/moves/operating.py",
        ", in_source_of(Move.PRUNE)",
        "",
        (RACES + "test_a_job_that_is_redriven_meanwhile_is_not_pruned",),
        quick=False,
    ),
    Mutant(
        "SQLite's writers take the lock at once (BEGIN IMMEDIATE)",
        "models/engines.py",
        '"BEGIN" if reads_only else "BEGIN IMMEDIATE"',
        '"BEGIN"',
        (
            DATABASE + "test_a_transaction_that_will_write_holds_the_write_lock_from_its_beginning",
            DATABASE + "test_no_update_is_lost_when_many_read_and_then_write",
        ),
    ),
    Mutant(
        "an idempotency key is unique",
        "models/migrations/versions/0010_the_first_tables.py",
        '["tenant_id", "idempotency_key"], unique=True',
        '["tenant_id", "idempotency_key"], unique=False',
        (RACES + "test_50_identical_submissions_at_once_make_one_job_that_all_see",),
    ),
    Mutant(
        "a message without a queue is returned (mandatory)",
        "workers/publisher.py",
        "mandatory=True",
        "mandatory=False",
        (
            "tests/integration/test_publisher.py::test_a_message_that_is_returned_is_not_confirmed_and_the_queue_is_made_anew",
        ),
    ),
    Mutant(
        "a returned message is not confirmed",
        "workers/publisher.py",
        "acknowledged and tag not in self.returned",
        "acknowledged",
        (
            "tests/integration/test_publisher.py::test_a_message_that_is_returned_is_not_confirmed_and_the_queue_is_made_anew",
        ),
        quick=False,
    ),
    Mutant(
        "a refused message is not confirmed (nack)",
        "workers/publisher.py",
        "isinstance(method, pika.spec.Basic.Ack)",
        "True",
        ("tests/integration/test_publisher.py::test_a_queue_that_refuses_is_not_confirmed",),
    ),
    Mutant(
        "an answer goes to the consumer that delivered (epochs)",
        "workers/consumer.py",
        "if message.consumer is self:",
        "if True:",
        (BROKER + "test_an_answer_to_an_earlier_consumers_message_is_dropped",),
    ),
    Mutant(
        "what is no message of ours goes to the dead letters",
        "workers/messages.py",
        "if len(document) == 1 and len(items) <= MOST_REFS",
        "",
        ("tests/unit/test_messages.py::test_what_encode_cannot_have_made_is_no_message",),
    ),
    Mutant(
        "an interrupt that did not strike in time is withdrawn",
        "workers/section.py",
        "if thread is not None and self._interrupted:",
        "if False:",
        ("tests/unit/test_section.py::test_no_interrupt_surfaces_after_leave_however_close_the_race",),
        quick=False,
    ),
    Mutant(
        "an interrupt is raised under the lock that leaving takes",
        "workers/section.py",
        "        with self._lock:\n            if self._thread is None or self._interrupted:",
        "        if True:\n            if self._thread is None or self._interrupted:",
        ("tests/unit/test_section.py::test_no_interrupt_surfaces_after_leave_however_close_the_race",),
        quick=False,
    ),
    Mutant(
        "a section is interrupted once",
        "workers/section.py",
        "if self._thread is None or self._interrupted:",
        "if self._thread is None:",
        ("tests/unit/test_section.py::test_a_section_is_interrupted_once_at_most",),
    ),
    Mutant(
        "a job in hand is not begun again",
        "workers/running.py",
        " if ref not in self._taken]\n            self._taken.update",
        "]\n            self._taken.update",
        (
            "tests/unit/test_running.py::test_a_job_is_taken_once_until_it_is_let_go",
            EXECUTOR + "test_a_second_delivery_while_the_handler_runs_is_counted_and_let_go",
        ),
    ),
    Mutant(
        "a start whose answer was lost is looked up",
        "workers/executor.py",
        "return started + found",
        "return started",
        (EXECUTOR + "test_a_start_whose_answer_was_lost_is_found_and_run_once",),
    ),
    Mutant(
        "an end whose answer was lost is looked up, in history",
        "workers/recorder.py",
        "queries.ended_by(session, ref, self.actor)",
        "None",
        (EXECUTOR + "test_a_finish_whose_answer_was_lost_is_known_for_done_and_not_for_stale",),
    ),
    Mutant(
        "an end is one's own only under one's own name",
        "models/queries.py",
        ", c.actor == actor",
        "",
        (EXECUTOR + "test_an_outcome_that_came_too_late_is_stale_also_where_the_job_is_where_it_would_have_gone",),
    ),
    Mutant(
        "a handler's own writes are committed with its success only",
        "workers/recorder.py",
        "        desk.roll_back()\n        if decision is not None",
        "        desk.commit()\n        if decision is not None",
        (EXECUTOR + "test_and_rolled_back_with_whatever_else_happens",),
        quick=False,
    ),
    Mutant(
        "a checkpoint is kept under its lease only",
        "models/reports.py",
        '_c.lease == bindparam("of_lease"), ',
        "",
        (EXECUTOR + "test_a_checkpoint_is_refused_once_the_lease_is_lost",),
        quick=False,
    ),
    Mutant(
        "what was not confirmed is given back",
        "workers/duties/dispatch.py",
        "if not arrived for ref",
        "if False for ref",
        (DUTIES + "test_what_is_not_confirmed_is_given_back_and_counted",),
        quick=False,
    ),
    Mutant(
        "only the leader rescues",
        "workers/duties/rescue.py",
        "if not self.leadership.held:",
        "if False:",
        (DUTIES + "test_a_standby_rescues_nobody",),
        quick=False,
    ),
    Mutant(
        "a lease of leadership is free only when it has expired",
        "models/worker.py",
        "leases.c.expires_at < now()",
        "leases.c.expires_at.is_not(None)",
        (RACES + "test_while_one_leads_nobody_else_does_and_it_may_go_on",),
        quick=False,
    ),
    Mutant(
        "a job that was lost with its worker travels alone",
        "workers/duties/grouping.py",
        "for job in claimed if job.lost]",
        "for job in claimed if False]",
        ("tests/unit/test_grouping.py",),
    ),
    Mutant(
        "a job that one more loss would bury starts only alone",
        "models/moves/dispatching.py",
        "started.where(_c.lost < LOSSES_UNTIL_ALONE)",
        "started",
        (
            RULES + "test_a_job_that_one_more_loss_would_bury_starts_only_alone",
            ALONE + "test_it_is_not_begun_before_the_others_are_done",
        ),
    ),
    Mutant(
        "a process that one job has for itself is kept from other messages",
        "workers/flow.py",
        "return 0 if self._reserved else",
        "return",
        (ALONE + "test_it_runs_and_nobody_else_gets_a_message_meanwhile",),
    ),
    Mutant(
        "a whole step is done again when its connection is cut",
        "models/database.py",
        "if left <= 0 or error.trouble is Trouble.AWAY:",
        "if True:",
        (DATABASE + "test_a_step_whose_connection_is_cut_is_done_again_from_its_beginning",),
        quick=False,
    ),
    Mutant(
        "each job is begun once, also by ten workers at once",
        "models/moves/frame.py",
        "return still_in(*MOVES[move].sources)",
        "return still_in(*MOVES[move].sources, *MOVES[move].targets)",
        (RACES + "test_two_dispatchers_and_ten_workers_start_each_of_2000_jobs_exactly_once",),
        quick=False,
    ),
    Mutant(
        "a cursor is good for its filters only",
        "api/lists.py",
        "\\0{urlencode(sorted(_filters()))}",
        "",
        ("tests/integration/test_api_reads.py::test_a_cursor_is_good_for_the_filters_it_was_given_out_for",),
        quick=False,
    ),
    Mutant(
        "a cursor is good for its tenant only",
        "api/paging.py",
        "\\0{self.tenant_id}",
        "",
        ("tests/unit/test_paging.py::test_a_foreign_cursor_is_refused",),
        quick=False,
    ),
)


class Wrong(Exception):  # noqa: N818
    """Why a mutation says nothing, or a guard is not tested."""


@contextmanager
def copied_tree() -> Iterator[Path]:
    """A copy of every file that is in the repository or would be."""
    with tempfile.TemporaryDirectory(prefix="jobmill-mutants-") as folder:
        copy = Path(folder)
        for name in _output("git", "ls-files", "--cached", "--others", "--exclude-standard").split("\n"):
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copy / name)
        _assert_imported_from(copy)
        yield copy


def kill(mutant: Mutant, copy: Path) -> float:
    """Make the edit in the copy, run the named tests, undo it; gives the seconds it took. Raises Wrong."""
    file = copy / mutant.file
    original = file.read_text()
    if original.count(mutant.text) != 1:
        raise Wrong(f"{mutant.file} has not once: {mutant.text!r}. Let the mutation follow the code.")
    mutated = original.replace(mutant.text, mutant.instead)
    compile(mutated, mutant.file, "exec")
    file.write_text(mutated)
    began = time.monotonic()
    try:
        status, output = run_tests(copy, mutant.tests)
    finally:
        file.write_text(original)
    _judge(mutant, status, output)
    return time.monotonic() - began


def run_tests(copy: Path, tests: Iterable[str]) -> tuple[int, str]:
    """The tests' exit status and the end of what they said."""
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "--tb=line", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env=_environment(copy),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Wrong(f"the tests did not end within {TIMEOUT_SECONDS} s") from None
    return done.returncode, (done.stdout + done.stderr)[-3000:]


def _judge(mutant: Mutant, status: int, output: str) -> None:
    if status == 0:
        raise Wrong(f"survived: {', '.join(mutant.tests)} passed without the guard")
    if status != 1 or "\nFAILED " not in output:
        raise Wrong(f"the tests did not fail but break (status {status}):\n{output}")


def _assert_imported_from(copy: Path) -> None:
    """The installed package is this tree; what is imported in the copy must be the copy's."""
    code = "import models, workers; print(models.__file__, workers.__file__)"
    found = _output(sys.executable, "-c", code, cwd=copy, env=_environment(copy)).split()
    if not all(Path(name).is_relative_to(copy.resolve()) for name in found):
        raise Wrong(f"the copy is not what is imported there, but {found}")


def _environment(copy: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(copy.resolve())}


def _output(*command: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=True).stdout.strip()


def main(words: list[str]) -> int:
    """Kill all mutants, or those whose guard has one of the words; prints a table."""
    chosen = [each for each in MUTANTS if not words or any(word in each.guard for word in words)]
    wrong = 0
    with copied_tree() as copy:
        status, output = run_tests(copy, sorted({test for mutant in chosen for test in mutant.tests}))
        if status:
            raise SystemExit(f"The tests fail before anything is mutated:\n{output}")
        for mutant in chosen:
            try:
                print(f"{kill(mutant, copy):5.1f} s  caught  {mutant.guard}", flush=True)
            except Wrong as reason:
                wrong += 1
                print(f"         WRONG   {mutant.guard}: {reason}", flush=True)
    print(f"{len(chosen)} guards taken out one by one, {len(chosen) - wrong} missed by their tests as they should be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
