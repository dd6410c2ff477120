"""The guards of the product, each with the edit that takes it out and the tests that must fail without it."""

from dataclasses import dataclass

MOVES = "tests/integration/test_moves_matrix.py::"
RULES = "tests/integration/test_moves_rules.py::"
RACES = "tests/integration/test_races.py::"
EXECUTOR = "tests/integration/test_executor.py::"
ALONE = "tests/integration/test_alone.py::"
BROKER = "tests/integration/test_broker.py::"
DUTIES = "tests/integration/test_duties.py::"
COLLECT = "tests/integration/test_collect.py::"
DATABASE = "tests/integration/test_database.py::"
QUEUES = "tests/integration/test_queues_table.py::"
TELLING = "tests/integration/test_telling.py::"
GATES = "tests/integration/test_gates.py::"
DELIVERING = "tests/integration/test_delivering.py::"
WEBHOOK_RACES = "tests/integration/test_webhook_races.py::"
DEAD_LETTERS = "tests/integration/test_api_dead_letters.py::"


@dataclass(frozen=True)
class Mutant:
    """A guard, the edit that takes it out, and the tests that must fail then. Those that are `quick` run in CI."""

    guard: str
    file: str
    text: str
    instead: str
    tests: tuple[str, ...]
    quick: bool = False

    def __str__(self) -> str:
        return self.guard


MUTANTS = (
    Mutant(
        "a move looks at the lease",
        "models/moves/frame.py",
        "_c.lease == rows.c.lease, in_source_of(move)",
        "in_source_of(move)",
        (MOVES + "test_a_move_under_another_lease_changes_nothing",),
        quick=True,
    ),
    Mutant(
        "a move looks at the state",
        "models/moves/frame.py",
        "_c.lease == rows.c.lease, in_source_of(move)",
        "_c.lease == rows.c.lease",
        (MOVES + "test_a_move_from_any_other_state_changes_nothing",),
        quick=True,
    ),
    Mutant(
        "a start looks whether its queue is paused",
        "models/moves/dispatching.py",
        "    started = started.where(_c.queue.not_in(paused_names))\n",
        "",
        (QUEUES + "test_no_job_of_a_paused_queue_begins_and_none_is_lost",),
    ),
    Mutant(
        "a claim of a limited queue counts again",
        "workers/duties/claiming.py",
        "min(wanted, allowance(held, in_hand))",
        "wanted",
        (DUTIES + "test_a_limit_is_asked_again_at_the_claim",),
        quick=True,
    ),
    Mutant(
        "one dispatcher at a time claims from a limited queue",
        "models/queue.py",
        "locked(select(*_QUEUE).where(_c.name == name), dialect_of(session))",
        "select(*_QUEUE).where(_c.name == name)",
        (DUTIES + "test_a_limited_queue_that_somebody_holds_is_left_for_this_look",),
    ),
    Mutant(
        "a claim raises the lease",
        "models/moves/dispatching.py",
        "lease=_c.lease + 1",
        "lease=_c.lease",
        (MOVES + "test_a_move_takes_a_job_from_its_source_to_its_target",),
        quick=True,
    ),
    Mutant(
        "a claim is renewed under its own lease",
        "models/reports.py",
        "_c.lease == rows.c.lease, still_in(State.DISPATCHED)\n        )\n        .values(lease_expires_at",
        "still_in(State.DISPATCHED)\n        )\n        .values(lease_expires_at",
        (RULES + "test_only_a_dispatched_job_s_claim_is_renewed",),
    ),
    Mutant(
        "a retry leaves alone what is to be cancelled",
        "models/moves/finishing.py",
        "_c.cancel_requested_at.is_(None))\n        .values(\n            state=State.QUEUED,\n            error",
        "True)\n        .values(\n            state=State.QUEUED,\n            error",
        (MOVES + "test_a_job_whose_cancellation_was_asked_for_is_not_put_back",),
    ),
    Mutant(
        "a redrive leaves alone what shares its key with an unfinished job",
        "models/moves/operating.py",
        "rows.c.place == 1, ~held",
        "rows.c.place == 1",
        (RULES + "test_a_dead_job_whose_unique_key_is_held_stays_dead",),
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
        "models/moves/pruning.py",
        "_c.id.in_(old), in_source_of(Move.PRUNE)",
        "_c.id.in_(old)",
        (RACES + "test_a_job_that_is_redriven_meanwhile_is_not_pruned",),
    ),
    Mutant(
        "a letter goes only as it was written down",
        "models/moves/pruning.py",
        "now.get(letter.job.id) == letter",
        "letter.job.id in now",
        ("tests/integration/test_archive.py::test_a_letter_that_changes_while_it_is_written_stays",),
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
        quick=True,
    ),
    Mutant(
        "an idempotency key is unique",
        "models/migrations/versions/0010_the_first_tables.py",
        '["tenant_id", "idempotency_key"], unique=True',
        '["tenant_id", "idempotency_key"], unique=False',
        (RACES + "test_50_identical_submissions_at_once_make_one_job_that_all_see",),
        quick=True,
    ),
    Mutant(
        "a batch is recorded in the order of its keys",
        "jobs/submit.py",
        "sorted(_firsts(open_), key=_by_keys)",
        "_firsts(open_)",
        (
            "tests/integration/test_batches_deadlock.py::test_batches_that_share_keys_in_opposite_orders_do_not_wait_for_each_other",
        ),
    ),
    Mutant(
        "a message without a queue is returned (mandatory)",
        "workers/publisher.py",
        "mandatory=True",
        "mandatory=False",
        (
            "tests/integration/test_publisher.py::test_a_message_that_is_returned_is_not_confirmed_and_the_queue_is_made_anew",
        ),
        quick=True,
    ),
    Mutant(
        "a returned message is not confirmed",
        "workers/publisher.py",
        "acknowledged and tag not in self.returned",
        "acknowledged",
        (
            "tests/integration/test_publisher.py::test_a_message_that_is_returned_is_not_confirmed_and_the_queue_is_made_anew",
        ),
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
        quick=True,
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
    ),
    Mutant(
        "an interrupt is raised under the lock that leaving takes",
        "workers/section.py",
        "        with self._lock:\n            if self._thread is None or self._interrupted:",
        "        if True:\n            if self._thread is None or self._interrupted:",
        ("tests/unit/test_section.py::test_no_interrupt_surfaces_after_leave_however_close_the_race",),
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
        quick=True,
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
    ),
    Mutant(
        "a checkpoint is kept under its lease only",
        "models/reports.py",
        '_c.lease == bindparam("of_lease"), ',
        "",
        (EXECUTOR + "test_a_checkpoint_is_refused_once_the_lease_is_lost",),
    ),
    Mutant(
        "what was not confirmed is given back",
        "workers/duties/dispatch.py",
        "if not arrived for ref",
        "if False for ref",
        (DUTIES + "test_what_is_not_confirmed_is_given_back_and_counted",),
    ),
    Mutant(
        "only the leader rescues",
        "workers/duties/rescue.py",
        "if not self.leadership.held or not self._is_time(time.monotonic()):",
        "if not self._is_time(time.monotonic()):",
        (DUTIES + "test_a_standby_rescues_nobody",),
    ),
    Mutant(
        "a lease of leadership is free only when it has expired",
        "models/lease.py",
        "c.expires_at < now()",
        "c.expires_at.is_not(None)",
        (RACES + "test_who_asked_while_another_was_taking_an_expired_lease_does_not_lead",),
    ),
    Mutant(
        "a job that was lost with its worker travels alone",
        "workers/duties/grouping.py",
        "return math.inf if job.lost else",
        "return math.inf if False else",
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
        "if left <= 0 or error.trouble in lasting:",
        "if True:",
        (DATABASE + "test_a_step_whose_connection_is_cut_is_done_again_from_its_beginning",),
    ),
    Mutant(
        "each job is begun once, also by ten workers at once",
        "models/moves/frame.py",
        "return still_in(*MOVES[move].sources)",
        "return still_in(*MOVES[move].sources, *MOVES[move].targets)",
        (RACES + "test_two_dispatchers_and_ten_workers_start_each_of_2000_jobs_exactly_once",),
    ),
    Mutant(
        "a cursor is good for its filters only",
        "api/lists.py",
        "\\0{urlencode(sorted(_filters()))}",
        "",
        ("tests/integration/test_api_reads.py::test_a_cursor_is_good_for_the_filters_it_was_given_out_for",),
    ),
    Mutant(
        "a cursor is good for its tenant only",
        "api/paging.py",
        "\\0{self.tenant_id}",
        "",
        ("tests/unit/test_paging.py::test_a_foreign_cursor_is_refused",),
    ),
    Mutant(
        "an edit looks at what it replaces",
        "models/moves/operating.py",
        "cast(_c.args, Text) == rows.c.before",
        "rows.c.before.is_not(None)",
        (RULES + "test_an_edit_of_args_that_are_others_by_now_changes_nothing",),
    ),
    Mutant(
        "a second try does not pass off another's replay as its own",
        "jobs/dead_letters.py",
        "again and queries.last_operation(session, job_id) == (move, principal.actor)",
        "again",
        (DEAD_LETTERS + "test_a_second_try_does_not_pass_off_anothers_doing_as_its_own",),
    ),
    Mutant(
        "an edit tells of the args that it replaces, not of those that were read before",
        "jobs/dead_letters.py",
        "_changes(orjson.loads(before), args, ())",
        "_changes(job.args, args, ())",
        (DEAD_LETTERS + "test_what_an_edit_tells_of_is_what_it_replaced",),
    ),
    Mutant(
        "a message of no job is acknowledged after it is kept",
        "workers/duties/collect.py",
        "            outcome = self.database.run(",
        "            dead_queues.acknowledge(arrivals)\n            outcome = self.database.run(",
        (COLLECT + "test_a_dispatcher_that_ends_between_its_commit_and_the_acknowledgement_keeps_nothing_twice",),
    ),
    Mutant(
        "a message that comes again is known",
        "workers/duties/judging.py",
        "self.arrival.redelivered and self.arrival.digest in digests",
        "False",
        (COLLECT + "test_a_message_that_comes_again_is_one_row_and_its_twin_another",),
    ),
    Mutant(
        "a message that was never handed out is new, whatever it is like",
        "workers/duties/judging.py",
        "self.arrival.redelivered and self.arrival.digest in digests",
        "self.arrival.digest in digests",
        (COLLECT + "test_messages_that_are_alike_are_kept_each",),
    ),
    Mutant(
        "what is kept of a kind is bounded",
        "models/undeliverable.py",
        ".offset(most)",
        ".offset(most * 1000)",
        (COLLECT + "test_a_flood_of_one_kind_pushes_out_only_its_own",),
    ),
    Mutant(
        "only the leader collects",
        "workers/duties/collect.py",
        "if not (self.leadership.held and self.transport.connected):",
        "if not self.transport.connected:",
        (COLLECT + "test_a_standby_takes_nothing",),
    ),
    Mutant(
        "a message of a job that is there is not kept",
        "workers/duties/judging.py",
        "if not message.names_any(there)]",
        "if True]",
        (COLLECT + "test_a_message_of_a_living_job_gives_its_claim_back",),
    ),
    Mutant(
        "to a tenant there are no messages of no job",
        "jobs/undeliverable.py",
        "undeliverable.find_undeliverable(session, message_id) if principal.tenant_id is None else None",
        "undeliverable.find_undeliverable(session, message_id)",
        ("tests/integration/test_api_undeliverable.py::test_to_a_tenant_there_are_none",),
    ),
    Mutant(
        "a success of which somebody is told is not recorded without telling",
        "models/moves/finishing.py",
        "_succeed(dialect, REF).where(~heard(EVENTS[State.SUCCEEDED]))",
        "_succeed(dialect, REF)",
        (TELLING + "test_only_jobs_that_nobody_listens_to_succeed_unheard",),
        quick=True,
    ),
    Mutant(
        "a gate that somebody else holds is passed over",
        "workers/duties/claiming.py",
        "0 if share_id in busy else room(",
        "room(",
        (GATES + "test_a_claim_counts_under_the_gates_rows_so_that_two_cannot_fill_one_twice",),
    ),
    Mutant(
        "what an old URL answers is not held against the new one",
        "jobs/delivering.py",
        "endpoint is not None and endpoint.url == receiver.url",
        "endpoint is not None",
        ("tests/integration/test_delivering.py::test_what_the_old_url_answers_is_not_held_against_the_new_one",),
    ),
    Mutant(
        "a gate lets out only as many as there is room for",
        "workers/duties/claiming.py",
        "turns.in_turn(unserved, wanted - len(jobs), rooms)",
        "turns.in_turn(unserved, wanted - len(jobs))",
        (GATES + "test_of_a_gate_so_many_are_handed_out_and_of_another_as_many",),
    ),
    Mutant(
        "a closed gate lets nothing through",
        "workers/duties/limits.py",
        "    if gate.closed:\n        return 0\n",
        "",
        (GATES + "test_a_closed_gate_lets_nothing_through_until_its_time",),
    ),
    Mutant(
        "an answer is kept only for the attempt that runs",
        "models/webhook_deliveries.py",
        "jobs.c.lease == ref.lease, jobs.c.state == State.RUNNING",
        "jobs.c.state == State.RUNNING",
        (DELIVERING + "test_a_stale_attempt_changes_neither_the_delivery_nor_its_endpoint",),
    ),
    Mutant(
        "a sealed secret is bound to what it belongs to",
        "jobs/sealing.py",
        "sealed[_NONCE_BYTES:], of.encode()",
        "sealed[_NONCE_BYTES:], None",
        (DELIVERING + "test_a_secret_in_the_database_is_sealed_and_bound_to_its_place",),
    ),
    Mutant(
        "a tenant's own secrets are rotated in turn",
        "jobs/webhook_secrets.py",
        "        identity.hold_tenant(session, tenant_id)\n",
        "        pass\n",
        (WEBHOOK_RACES + "test_of_two_rotations_at_once_the_later_ends_the_secret_of_the_other",),
    ),
    Mutant(
        "no secret is sealed under a key that others do not have",
        "jobs/webhook_secrets.py",
        "    secret_key.pledge(session, pepper)\n",
        "",
        (DELIVERING + "test_a_worker_with_another_key_makes_no_secret_that_others_cannot_open",),
    ),
)
