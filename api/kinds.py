"""Every code of what can go wrong: its status, its title, and the words of its page at `/problems/<code>`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """What a code means: HTTP status, what happened, what whoever gets it should do, and why it is so."""

    status: int
    title: str
    advice: str
    why: str = ""


KINDS: dict[str, Kind] = {
    "invalid-request": Kind(
        400,
        "The request is not valid",
        "Each member of `errors` names a place and what is wrong there. Mend them all.",
        "A member, a query parameter or a header is missing, unknown, or has a value that is not allowed. Everything "
        "that is wrong is told at once, and nothing was stored. Unknown names are errors, so that a mistake in typing "
        "does not pass in silence.",
    ),
    "malformed-json": Kind(
        400,
        "The body is not acceptable JSON",
        "Send one JSON document in UTF-8: no duplicate members, NaN or NUL.",
        "The body is no JSON text, or one that not every reader takes alike. `json_error` says what it is, `detail` at "
        "which byte: `malformed`, `empty`, `not-utf-8`, `nul-character`, `lone-surrogate`, `duplicate-member`, "
        "`integer-out-of-range` (beyond 64 bits), `number-not-finite`, or `too-deep` (more than 64 levels).",
    ),
    "incomplete-body": Kind(
        400,
        "The body ended early",
        "Fewer bytes came than Content-Length said. Send the request again.",
        "The connection was cut, or stalled, before the whole body had come. What came was dropped: half of a request "
        "can look like a whole one.",
    ),
    "invalid-cursor": Kind(
        400,
        "The cursor is not one of this list",
        "Use `next_cursor` as it was given, with the same key, list and filters; or begin without one.",
        "A cursor is signed, and holds for the list, the filters and the tenant that it was given out for. This one "
        "was changed, cut, or belongs to another.",
    ),
    "idempotency-key-required": Kind(
        400,
        "An Idempotency-Key is required here",
        "Send a fresh random key with each new job, the same with each retry.",
        "This installation takes no submission that could not be repeated safely (JOBMILL_REQUIRE_IDEMPOTENCY_KEY). "
        "Without a key, a request whose answer was lost and that is sent again makes two jobs.",
    ),
    "malformed-request": Kind(
        400,
        "This is not HTTP as it should be",
        "Use an HTTP library, or mend what `detail` names; the connection is closed.",
        "The request line or a header breaks the rules of HTTP/1.1 (RFC 9112), or could be read in two ways: two "
        "lengths, a length and chunks, no or two `Host`, blanks before a colon, bare line feeds, folded lines. What "
        "stands before this server might read it the other way, so nothing of it was done.",
    ),
    "unauthenticated": Kind(
        401,
        "No usable credentials",
        "Send `Authorization: Bearer` with an API key or token that is neither revoked nor expired.",
        "The header is missing or has another form, or what it holds is unknown, changed, expired or revoked. Which of "
        "these an API key is, is not told: that would help whoever guesses.",
    ),
    "forbidden": Kind(
        403,
        "The key lacks a scope",
        "Use a key with the scope that `detail` names, or ask for one.",
        "The key is known, and does not grant what this operation needs; or the operation is for tenants, and this is "
        "a platform key, or the other way round.",
    ),
    "not-found": Kind(
        404,
        "There is nothing here",
        "Check the address, and that the key is of the same tenant.",
        "There is no such route, or no such resource any more: finished jobs are pruned after a while. What belongs to "
        "another tenant is answered like what does not exist.",
    ),
    "method-not-allowed": Kind(
        405,
        "The method does not fit",
        "The `Allow` header lists the methods that do.",
        "The address exists, and does not take this HTTP method. HEAD is taken wherever GET is.",
    ),
    "not-acceptable": Kind(
        406,
        "No such representation",
        "This API answers application/json.",
        "The `Accept` header asks for a form that there is none of here.",
    ),
    "request-timeout": Kind(
        408,
        "The request came too slowly",
        "Send it again, over a connection that lets it through faster.",
        "A head may take 15 seconds, and a body as long, and a second more for each 64 KiB of it. The connection is "
        "closed: slow clients would keep others out.",
    ),
    "job-is-final": Kind(
        409,
        "The job is final",
        "Nothing can be done with it; read its `state` instead.",
        "The job has succeeded, died, been cancelled or been discarded already, perhaps while the request was on its "
        "way. A final job changes no more, but for a dead one that an operator redrives.",
    ),
    "job-not-waiting": Kind(
        409,
        "The job does not wait",
        "Read its `state`: it runs, is about to, or is final.",
        "Only a job that is `queued` waits for its `due_at`, and can be made due before it.",
    ),
    "job-not-dead": Kind(
        409,
        "The job is no dead letter",
        "Read its `state`: somebody may have replayed or discarded it already.",
        "Only a job that is `dead` can be edited, replayed or discarded. Of two who replay one at the same moment, one "
        "does, and the other gets this; a discarded one never comes back.",
    ),
    "too-many-letters": Kind(
        409,
        "More dead letters than one redrive takes",
        "Narrow the filter, by `died_before` say, and start another redrive when this one has ended.",
        "A redrive pins its letters when it is made, 100,000 at most. Nothing was done.",
    ),
    "redrive-ended": Kind(
        409,
        "The redrive has ended",
        "Read its `state`. To handle what it left, start another by the same filter.",
        "A redrive that has succeeded, was aborted or cancelled goes on no more.",
    ),
    "job-changed": Kind(
        409,
        "The job was changed meanwhile",
        "Read it again, and send your change anew if it is still right.",
        "Somebody else edited the dead letter at the same moment. To write over what he wrote, unseen, would lose it.",
    ),
    "too-many-endpoints": Kind(
        409,
        "There are as many webhook endpoints as may be",
        "Delete one that is not used, or add events and types to one that is.",
        "A tenant may have 100 webhook endpoints: whenever a job ends, all of them are looked at. Nothing was made.",
    ),
    "delivery-under-way": Kind(
        409,
        "The delivery is being sent",
        "Wait for what comes of it, and read its `status`.",
        "Only a delivery that waits, or is over, can be sent once more; this one is on its way at this moment.",
    ),
    "not-unique": Kind(
        409,
        "The unique_key is held",
        "Wait until the job in `holder` is finished, or take another key.",
        "At most one unfinished job of a tenant and type may have the same `unique_key`. `holder` is the id of the one "
        "that has it; nothing was recorded.",
    ),
    "too-busy": Kind(
        409,
        "Others changed the same thing",
        "Send the same request again.",
        "While the request was served, others kept taking and leaving the same `unique_key`, and the attempt was given "
        "up after a few rounds. Nothing was recorded.",
    ),
    "batch-refused": Kind(
        409,
        "The batch was not recorded",
        "Mend or leave out the jobs that `refused` names, and send the batch again; or send it without `atomic`.",
        "With `atomic=true` either all jobs of a batch are recorded or none. At least one cannot be: `refused` tells "
        "for each its `index` in `jobs`, and the `problem` that it would have had alone.",
    ),
    "length-required": Kind(
        411,
        "Content-Length is required",
        "Send the body with its length, not chunked: only then is a cut one noticed.",
        "The body came without a Content-Length, or in chunks. A chunked body that was cut cannot be told from a whole "
        "one by every server, so it is not taken.",
    ),
    "body-too-large": Kind(
        413,
        "The body is too large",
        "Put large data elsewhere and pass its URL.",
        "A request may have 1 MiB, a batch 16 MiB. Jobs are rows of a database, each read whenever it is claimed.",
    ),
    "args-too-large": Kind(
        413,
        "The args are too large",
        "Put large data elsewhere and pass its URL.",
        "The arguments of a job may have 256 KiB as JSON; they are kept with the job for as long as it is.",
    ),
    "uri-too-long": Kind(
        414,
        "The address is too long",
        "Leave out filters, or ask for fewer at once.",
        "The request line, with method and query, may have 8190 bytes. The connection is closed.",
    ),
    "unsupported-media-type": Kind(
        415,
        "The body is not JSON",
        "Send it with `Content-Type: application/json`.",
        "The Content-Type is missing or of another type, or the body is compressed. A type is not guessed: a form that "
        "another site sent in the name of its visitor would pass as JSON.",
    ),
    "idempotency-key-reused": Kind(
        422,
        "The Idempotency-Key belongs to another body",
        "Use a fresh key for a different job.",
        "This tenant used the key before, with a body that is not the same as JSON. A key lives as long as its job. "
        "Nothing was recorded.",
    ),
    "quota-exceeded": Kind(
        429,
        "Too many requests",
        "Send the request again after `Retry-After` seconds; `RateLimit` tells what is left from then on.",
        "The key, or whoever the token is of, made more requests of this class than its policy lets through; or too "
        "many wrong credentials came from this address. `violated-policies` names the class. Nothing was done.",
    ),
    "headers-too-large": Kind(
        431,
        "There are too many headers, or too large ones",
        "Send fewer and shorter ones.",
        "A request may have 100 headers of 8190 bytes each. The connection is closed.",
    ),
    "issuer-away": Kind(
        503,
        "The token's issuer is away",
        "Try again later, or use an API key.",
        "The token is of an outside issuer whose keys could not be read yet, so nothing can be said of its worth.",
    ),
    "http-error": Kind(
        400,
        "The request cannot be served",
        "See `detail`.",
        "Something about the request itself cannot be served, which has no code of its own; the status says what kind.",
    ),
    "too-many-large-bodies": Kind(
        503,
        "Too many large requests at once",
        "Send the same request again after `Retry-After` seconds, or send smaller batches.",
        "A process of the API reads only so many bodies of more than 1 MiB at once, so that nobody fills its memory. "
        "Nothing was recorded.",
    ),
    "too-many-streams": Kind(
        503,
        "No more streams here",
        "Try again after `Retry-After` seconds, or poll the job.",
        "As many clients follow jobs or wait for them in this process as may (JOBMILL_API_WAITING).",
    ),
    "internal-error": Kind(
        500,
        "Something broke on our side",
        "Try again later; name the request_id when you report it.",
        "An error that nobody foresaw. It was logged with its place under the `request_id`, and what the request wrote "
        "was undone. A submission with an Idempotency-Key can be sent again safely.",
    ),
    "backlog-too-old": Kind(
        503,
        "The queue is too far behind",
        "Submit it again after `Retry-After` seconds, with the same Idempotency-Key; or to another queue.",
        "The oldest due job of the queue has waited for longer than this installation allows "
        "(JOBMILL_BACKLOG_LIMIT_SECONDS), so another would only wait longer. Nothing was recorded.",
    ),
    "unavailable": Kind(
        503,
        "The database is away",
        "Try again after `Retry-After` seconds, with the same Idempotency-Key: a job is then recorded once.",
        "The database restarts, fails over, or cannot be reached, and did not come back while the request waited. What "
        "was asked for may or may not have been done: only the answer is certainly lost. Accepted jobs are safe.",
    ),
}

CODES_BY_STATUS = {400: "invalid-request", 404: "not-found", 405: "method-not-allowed", 406: "not-acceptable"} | {
    411: "length-required",
    413: "body-too-large",
    415: "unsupported-media-type",
}
