"""Values where values are taken: cursors, filters, and headers that are told, kept or given back."""

from urllib.parse import quote

from tests.acceptance.hostile.row import JOB, Row, get, post

CURSOR, INVALID = "invalid-cursor", "invalid-request"
SQL = (
    "'",
    "' OR '1'='1",
    "'; DROP TABLE jobs; --",
    '" OR ""="',
    "\\' OR 1=1 --",
    "1) UNION SELECT secret_hash FROM api_keys--",
)


def list_of(name: str, query: str, status: int, code: str | None = None, *headers: str) -> Row:
    return get(name, f"/v1/jobs?{query}", status, code, *headers)


def submitted(name: str, status: int, code: str | None, *headers: str | bytes, writes: int = 0) -> Row:
    return post(name, JOB, status, code, *headers, writes=writes)


CURSORS = [
    *(
        list_of(f"a cursor: {name}", query, 400, CURSOR)
        for name, query in {
            "of another tenant": "limit=1&cursor=@OTHER_CURSOR@",
            "of another list": "limit=1&cursor=@KEYS_CURSOR@",
            "of other filters": "limit=1&cursor=@FILTER_CURSOR@",
            "for other filters": "limit=1&cursor=@CURSOR@&queue=default",
            "with a letter more": "cursor=@CURSOR@A",
            "with a letter before": "cursor=A@CURSOR@",
            "with padding": "cursor=@CURSOR@=",
            "with a blank": "cursor=@CURSOR@%20",
            "twice over": "cursor=@CURSOR@@CURSOR@",
            "of nothing": "cursor=",
            "of one letter": "cursor=A",
            "that is no base64": "cursor=%23%23%23",
            "of another alphabet": "cursor=%2B%2F%2B%2F",
            "of a job's id": "cursor=@JOB@",
            "that is made up": "cursor=AAAAAAAAAAAAAAAAAAAAADAxODkwMDAwLTAwMDAtNzAwMC04MDAwLTAwMDAwMDAwMDAwMA",
            "of SQL": f"cursor={quote(SQL[1])}",
            "beyond ASCII": "cursor=%C3%A4",
        }.items()
    ),
    get("a cursor of ours to keys", "/v1/keys?cursor=@CURSOR@", 400, CURSOR),
    get("a cursor of ours to the audit log", "/v1/audit-log?cursor=@CURSOR@", 400, CURSOR),
    get("a cursor of ours to a job's history", "/v1/jobs/@JOB@/events?cursor=@CURSOR@", 400, CURSOR),
    get("a cursor of ours for another tenant", "/v1/jobs?limit=1&cursor=@CURSOR@", 400, CURSOR, key="@OTHER@"),
    list_of("a cursor of 401 letters", f"cursor={'A' * 401}", 400, INVALID),
    list_of("a cursor with NUL", "cursor=%00", 400, INVALID),
    list_of("two cursors", "cursor=@CURSOR@&cursor=@CURSOR@", 400, INVALID),
]

FILTERS = [
    *(
        list_of(f"a limit of {limit[:12]}", f"limit={limit}", 400, INVALID)
        for limit in (
            *("0", "-1", "201", "1000000000", "1.5", "abc", "", "0x10", "1e1", "1_0", "NaN", "true", "%00", "9" * 5000),
            *("10%3B", "1%20OR%201", "%27", "%2B5", "%205", "5%20", "%EF%BC%95", "5%0a", "%D9%A1"),
        )
    ),
    list_of("two limits", "limit=1&limit=2", 400, INVALID),
    list_of("an unknown filter", "tenant_id=@JOB@", 400, INVALID),
    list_of("a filter in brackets", "state[]=queued", 400, INVALID),
    list_of("a filter of an operator", "state[$ne]=queued", 400, INVALID),
    list_of("a filter of a path", "job.args=1", 400, INVALID),
    list_of("a state that is none", "state=forged", 400, INVALID),
    list_of("21 states", "&".join(["state=queued"] * 21), 400, INVALID),
    list_of("1000 parameters", "&".join(f"a{number}" for number in range(1000)), 400, INVALID),
    list_of("two tags", "tag.a=1&tag.b=2", 400, INVALID),
    list_of("a tag of no name", "tag.=1", 400, INVALID),
    list_of("a filter by NUL", "queue=a%00b", 400, INVALID),
    list_of("a filter's name by NUL", "que%00ue=a", 400, INVALID),
    *(
        list_of(f"the {name} {value}", f"{name}={quote(value, safe='')}", 200)
        for name in ("type", "queue", "unique_key", "tag.a", "tag." + quote("a' OR '1'='1"))
        for value in SQL
    ),
    *(list_of(f"the state {value}", f"state={quote(value, safe='')}", 400, INVALID) for value in SQL),
    list_of("a filter of bytes that are no text", "queue=%ff%fe", 200),
    list_of("a filter of wildcards", "type=%25&queue=_", 200),
    list_of("a filter that breaks lines", "type=%0d%0aSet-Cookie:%20a=b&limit=1", 200),
    list_of("fields that are none", "fields=password", 400, INVALID),
    list_of("fields of SQL", "fields=id%2Cargs%27--", 400, INVALID),
    list_of("fields that break lines", "fields=id%0d%0aSet-Cookie:%20a=b", 400, INVALID),
    list_of("fields of Python", "fields=__class__", 400, INVALID),
    list_of("600 fields", f"fields={'id,' * 600}id", 200),
    list_of("1500 fields", f"fields={'id,' * 1500}id", 400, INVALID),
    list_of("fields of nothing", "fields=", 400, INVALID),
    list_of("fields a thousand deep", f"fields=progress{'.percent' * 900}", 400, INVALID),
]

KEPT = [
    *(
        submitted(f"an Idempotency-Key of {name}", 400, INVALID, value)
        for name, value in {
            "nothing": "Idempotency-Key:",
            "256 letters": f"Idempotency-Key: {'k' * 256}",
            "8000 letters": f"Idempotency-Key: {'k' * 8000}",
            "two words": "Idempotency-Key: a b",
            "a tab": "Idempotency-Key: a\tb",
            "a letter beyond ASCII": "Idempotency-Key: \N{CYRILLIC SMALL LETTER A}",
            "a blank without width": "Idempotency-Key: a\N{ZERO WIDTH SPACE}",
            "bytes": b"Idempotency-Key: \xff",
        }.items()
    ),
    submitted("an Idempotency-Key of SQL", 202, None, "Idempotency-Key: ';DROP\tTABLE".replace("\t", "/**/"), writes=1),
    submitted("an Idempotency-Key for another body", 422, "idempotency-key-reused", "Idempotency-Key: @USED@"),
]

TOLD = [
    *(
        get(f"an X-Request-Id of {name}", "/healthz", 200, None, value)
        for name, value in {
            "nothing": "X-Request-Id:",
            "129 letters": f"X-Request-Id: {'x' * 129}",
            "JSON": 'X-Request-Id: "}{"event":"forged"}',
            "two words": "X-Request-Id: a b",
            "letters beyond ASCII": "X-Request-Id: \N{LINE SEPARATOR}forged",
            "markup": "X-Request-Id: <script>alert(1)</script>",
        }.items()
    ),
    get("an X-Request-Id that breaks lines", "/healthz", 400, "malformed-request", b"X-Request-Id: a\rb", closes=True),
    get("an X-Request-Id of escapes", "/healthz", 400, "malformed-request", b"X-Request-Id: \x1b[31m", closes=True),
    get("a User-Agent of escapes", "/healthz", 400, "malformed-request", b"User-Agent: \x1b[31m", closes=True),
    get("a User-Agent of bytes", "/v1/jobs", 200, None, b'User-Agent: \x80\xff"}{"event":"forged"}'),
    get("an Origin of evil", "/v1/jobs", 200, None, "Origin: https://evil.example"),
    get("an Origin of null", "/v1/jobs", 200, None, "Origin: null"),
    Row(
        "a page that asks first",
        b"OPTIONS /v1/jobs HTTP/1.1\r\nHost: jobmill\r\nOrigin: https://evil.example\r\n"
        b"Access-Control-Request-Method: POST\r\n\r\n",
        200,
    ),
    get(
        "an X-Forwarded-For of others",
        "/v1/jobs",
        200,
        None,
        'X-Forwarded-For: 127.0.0.1, ::1, "}{',
        "Forwarded: for=x",
    ),
    get("1000 in X-Forwarded-For", "/v1/jobs", 200, None, f"X-Forwarded-For: {'1.1.1.1,' * 1000}"),
    get("https that is none", "/v1/jobs", 200, None, "X-Forwarded-Proto: https", "X-Forwarded-Ssl: on"),
    get("another host", "/v1/jobs?limit=1", 200, None, "X-Forwarded-Host: evil.example", "X-Forwarded-Prefix: //evil"),
    get("another script", "/v1/jobs", 200, None, "Script-Name: /v1", "SCRIPT_NAME: /v1", "X-Original-URL: /v1/keys"),
    get("another path", "/healthz", 200, None, "X-Rewrite-URL: /v1/keys", "X-Accel-Redirect: /etc/passwd"),
    *(
        submitted(f"a traceparent of {name}", 202, None, f"traceparent: {value}", "tracestate: a=b", writes=1)
        for name, value in {
            "nonsense": "nonsense",
            "noughts": f"00-{'0' * 32}-{'0' * 16}-00",
            "capitals": f"00-{'A' * 32}-{'A' * 16}-01",
            "8000 letters": "0" * 8000,
        }.items()
    ),
    *(
        get(f"a Prefer of {value[:20]}", "/v1/jobs/@JOB@", 200, None, f"Prefer: {value}")
        for value in (
            "wait=-1",
            "wait=0",
            "wait=abc",
            "wait=1e9",
            "wait",
            "wait=\N{FULLWIDTH DIGIT ONE}",
            "a" * 8000,
            ",;=,;=",
        )
    ),
    *(
        get(f"an If-None-Match of {name}", "/v1/jobs/@JOB@", status, None, f"If-None-Match: {value}")
        for name, status, value in (
            ("nonsense", 200, '"'),
            ("a thousand", 200, '"a",' * 1900 + '"b"'),
            ("a quote without an end", 200, '"' + "a" * 8000),
            ("anything", 304, "*"),
        )
    ),
    get("a Last-Event-ID of SQL", "/v1/jobs/none/stream", 404, "not-found", f"Last-Event-ID: {SQL[2]}"),
    get("an If-Modified-Since of nonsense", "/v1/jobs/@JOB@", 200, None, "If-Modified-Since: \N{LINE SEPARATOR}"),
    get("cookies", "/v1/jobs", 200, None, f"Cookie: {'a=b;' * 1900}"),
]

ROWS = [*CURSORS, *FILTERS, *KEPT, *TOLD]
