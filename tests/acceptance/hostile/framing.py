"""Requests that two servers could cut in two ways, so that one reads a request where the other read a body.

Each carries a submission where its body is: were it read as a request, a job would be written and answered.
"""

from tests.acceptance.hostile.row import JOB, JSON, Row, raw, request

SMUGGLED = request("POST /v1/jobs HTTP/1.1", JSON, body=JOB)
LENGTH = "Content-Length: @SMUGGLED@"
CHUNKED = "Transfer-Encoding: chunked"
BAD = "malformed-request"


def framed(
    name: str, headers: list[str | bytes], status: int, code: str, body: bytes = SMUGGLED, *, ends: bool = False
) -> Row:
    """A submission with these headers about its body; nothing behind it may be read."""
    head = request("POST /v1/jobs HTTP/1.1", JSON, *headers)
    return raw(name, head + body, status, code, ends=ends)


def chunks(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


def headed(name: str, *headers: str | bytes, status: int = 400, code: str = BAD) -> Row:
    """A GET with these headers, with a submission behind it."""
    return raw(name, request("GET /healthz HTTP/1.1", *headers) + SMUGGLED, status, code)


def lines(name: str, text: bytes, status: int = 400, code: str = BAD) -> Row:
    return raw(name, text + SMUGGLED, status, code)


LENGTHS = [
    framed("a length and chunks", [LENGTH, CHUNKED], 400, BAD),
    framed("chunks and a length", [CHUNKED, LENGTH], 400, BAD),
    framed("a length of nothing and chunks", ["Content-Length: 0", CHUNKED], 400, BAD, chunks(SMUGGLED)),
    framed("two lengths alike", [LENGTH, LENGTH], 400, BAD),
    framed("two lengths", [LENGTH, "Content-Length: 0"], 400, BAD),
    framed("two lengths the other way", ["Content-Length: 0", LENGTH], 400, BAD),
    framed("two lengths in one line", ["Content-Length: 0, @SMUGGLED@"], 400, BAD),
    framed("the same length twice in one line", ["Content-Length: @SMUGGLED@, @SMUGGLED@"], 400, BAD),
    *(
        framed(f"a length of {length!r}", [b"Content-Length: " + length], 400, BAD)
        for length in (
            *(b"+0", b"-1", b"-0", b"0x0", b"1e1", b"1_0", b"0.0", b"0 0", b"0;a=b", b'"0"', b""),
            "\N{ARABIC-INDIC DIGIT ONE}".encode(),
            "\N{FULLWIDTH DIGIT ONE}".encode(),
            b"\xb2",  # a small two in latin-1, which is numeric and no number
            b"\x0b0",
        )
    ),
    framed("a length of 5000 digits", [f"Content-Length: {'9' * 5000}"], 400, BAD),
    framed("a blank before the length's colon", ["Content-Length : 0"], 400, BAD),
    framed("a tab before the length's colon", ["Content-Length\t: 0"], 400, BAD),
    framed("NUL in the length's name", [b"Content-Length\0: 0"], 400, BAD),
    framed("a blank before the length's name", [" Content-Length: 0"], 400, BAD),
    framed("the length in a folded line", ["Content-Length:", " 0"], 400, BAD),
    framed("the length behind a bare line feed", ["X: 1\nContent-Length: 0"], 400, BAD),
    framed("the length behind a bare carriage return", ["X: 1\rContent-Length: 0"], 400, BAD),
    framed("the length with an underscore", ["Content_Length: 0"], 411, "length-required"),
    framed("no length", [], 411, "length-required"),
]

CODINGS = [
    framed("chunks", [CHUNKED], 411, "length-required", chunks(JOB.encode()) + SMUGGLED),
    framed("CHUNKS", ["TRANSFER-ENCODING: CHUNKED"], 411, "length-required", chunks(b"{}") + SMUGGLED),
    framed(
        "chunks with a trailer that is a length",
        [CHUNKED],
        411,
        "length-required",
        chunks(b"{}", end=b"0\r\nContent-Length: 3\r\n\r\n") + SMUGGLED,
    ),
    framed(
        "chunks with a trailer that is a request",
        [CHUNKED],
        411,
        "length-required",
        chunks(b"{}", end=b"0\r\n") + SMUGGLED,
    ),
    framed("a chunk with an extension", [CHUNKED], 411, "length-required", b"2;a=\n\r\n{}\r\n0\r\n\r\n" + SMUGGLED),
    framed(
        "a chunk of a size beyond all", [CHUNKED], 411, "length-required", b"f" * 17 + b"\r\n" + SMUGGLED, ends=True
    ),
    framed("a chunk of a size below nothing", [CHUNKED], 411, "length-required", b"-2\r\n{}\r\n" + SMUGGLED),
    framed("a chunk of a size in Python's spelling", [CHUNKED], 411, "length-required", b"0x2\r\n{}\r\n" + SMUGGLED),
    framed("a chunk longer than it says", [CHUNKED], 411, "length-required", b"1\r\n{}\r\n0\r\n\r\n" + SMUGGLED),
    framed("chunks by bare line feeds", [CHUNKED], 411, "length-required", b"2\n{}\n0\n\n" + SMUGGLED),
    framed("chunks of chunks", ["Transfer-Encoding: chunked, chunked"], 400, BAD),
    framed("chunks twice", [CHUNKED, CHUNKED], 400, BAD),
    framed("chunks, then identity", ["Transfer-Encoding: chunked, identity"], 400, BAD),
    framed("identity", ["Transfer-Encoding: identity"], 400, BAD),
    framed("a coding and its opposite", [CHUNKED, "Transfer-Encoding: identity"], 400, BAD),
    framed("gzip in chunks", ["Transfer-Encoding: gzip, chunked"], 411, "length-required", chunks(b"\x1f\x8b")),
    framed("gzip alone", ["Transfer-Encoding: gzip"], 400, BAD),
    framed("xchunked", ["Transfer-Encoding: xchunked"], 501, "http-error"),
    framed("a coding in quotes", ['Transfer-Encoding: "chunked"'], 501, "http-error"),
    framed("a coding with a parameter", ["Transfer-Encoding: chunked;q=1"], 501, "http-error"),
    framed("an empty coding", ["Transfer-Encoding:"], 501, "http-error"),
    framed("an unknown coding and a length", [LENGTH, "Transfer-Encoding: cow"], 501, "http-error"),
    framed("a blank before the coding's colon", [LENGTH, "Transfer-Encoding : chunked"], 400, BAD),
    framed("a vertical tab before the coding", [LENGTH, b"Transfer-Encoding: \x0bchunked"], 400, BAD),
    framed("NUL behind the coding", [LENGTH, b"Transfer-Encoding: chunked\0"], 400, BAD),
    framed("the coding in a folded line", [LENGTH, "Transfer-Encoding:", " chunked"], 400, BAD),
    framed("the coding behind a bare line feed", [LENGTH, "X: 1\nTransfer-Encoding: chunked"], 400, BAD),
    raw("the coding in HTTP/1.0", request("POST /v1/jobs HTTP/1.0", JSON, CHUNKED) + chunks(JOB.encode()), 400, BAD),
    raw(
        "the coding with an underscore",
        request("POST /v1/jobs HTTP/1.1", JSON, "Transfer_Encoding: chunked") + chunks(JOB.encode()) + SMUGGLED,
        411,
        "length-required",
    ),
    raw("chunks to a GET", request("GET /healthz HTTP/1.1", CHUNKED) + chunks(b"{}") + SMUGGLED, 200),
]

HEADERS = [
    headed("no colon", "X-Nothing"),
    headed("no name", ": x"),
    headed("a blank in a name", "X Y: x"),
    headed("a bracket in a name", "X(Y): x"),
    headed("a letter beyond ASCII in a name", "X-\N{LATIN SMALL LETTER SHARP S}: x"),
    headed("NUL in a value", b"X: a\0b"),
    headed("a bell in a value", b"X: a\ab"),
    headed("DEL in a value", b"X: a\x7fb"),
    headed("a folded line", "X: a", " b"),
    headed("two Hosts", "Host: other"),
    headed("two Content-Types", "Content-Type: text/plain", JSON),
    headed("two Authorizations", "Authorization: Bearer jm_other_0123456789abcdef"),
    headed("two Idempotency-Keys", "Idempotency-Key: a", "Idempotency-Key: b"),
    headed("101 headers", *(f"X-{number}: x" for number in range(101)), status=431, code="headers-too-large"),
    headed("10000 headers", *("X: x" for _ in range(10_000)), status=431, code="headers-too-large"),
    headed("a header of 9 KB", f"X: {'x' * 9000}", status=431, code="headers-too-large"),
    headed("a header of 1 MB", f"X: {'x' * 2**20}", status=431, code="headers-too-large"),
    headed("an expectation that is none", "Expect: the-unexpected", status=417, code="http-error"),
    lines("no Host", b"GET /healthz HTTP/1.1\r\n\r\n"),
    *(
        lines(f"a Host of {host!r}", b"GET /healthz HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
        for host in (
            b"",
            b"a b",
            b"a,b",
            b"a/b",
            b"u@a",
            b"a:b",
            b"a:1:2",
            b"[::1",
            b"a?b",
            b"\xc3\xa4",
            b"a#b",
            b"a\\b",
        )
    ),
]

STREAMS = [
    lines("two empty lines before", b"\r\n\r\n" + request("GET /healthz HTTP/1.1")),
    lines("bare line feeds", b"GET /healthz HTTP/1.1\nHost: jobmill\n\n"),
    lines("HTTP/0.9", b"GET /healthz\r\n"),
    lines("HTTP/2 by its preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    lines("HTTP/3.0", request("GET /healthz HTTP/3.0"), 505, "http-error"),
    lines("HTTP/1.10", request("GET /healthz HTTP/1.10")),
    lines("http/1.1", request("GET /healthz http/1.1")),
    lines("HTTPS/1.1", request("GET /healthz HTTPS/1.1")),
    lines("a blank behind the version", request("GET /healthz HTTP/1.1 ")),
    lines("two blanks", request("GET  /healthz HTTP/1.1")),
    lines("tabs for blanks", request("GET\t/healthz\tHTTP/1.1")),
    lines("a proxy's own protocol", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + request("GET /healthz HTTP/1.1")),
    raw(
        "TLS",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 32,
        None,
        ends=True,
        why="RFC 9112, 8: a request that ends in its head may be answered by closing",
    ),
    raw(
        "a head that ends",
        b"GET /healthz HTTP/1.1\r\nHost: job",
        None,
        ends=True,
        why="RFC 9112, 8: a request that ends in its head may be answered by closing",
    ),
    raw("nothing", b"", None, ends=True, why="there is no request"),
    raw(
        "a body that ends",
        request("POST /v1/jobs HTTP/1.1", JSON, "Content-Length: 500") + JOB.encode(),
        400,
        "incomplete-body",
        ends=True,
    ),
    raw(
        "a body of ever and ever",
        request("POST /v1/jobs HTTP/1.1", JSON, "Content-Length: 99999999999999999999"),
        413,
        "body-too-large",
        ends=True,
    ),
    Row("an empty line before", b"\r\n" + request("GET /healthz HTTP/1.1"), 200),
    Row(
        "a request within a refused body",
        request("POST /v1/jobs HTTP/1.1", JSON, body=SMUGGLED, key=None),
        401,
        "unauthenticated",
    ),
    Row("a request within the body of a GET", request("GET /healthz HTTP/1.1", body=SMUGGLED), 200),
    Row("a request within the body of nothing", request("POST /nothing HTTP/1.1", body=SMUGGLED), 404, "not-found"),
    raw("closed by one of its options", request("GET /healthz HTTP/1.1", "Connection: x, Close") + SMUGGLED, 200),
    raw("HTTP/1.0 without a Host", b"GET /healthz HTTP/1.0\r\n\r\n" + SMUGGLED, 200),
    Row(
        "an upgrade to HTTP/2",
        request(
            "GET /healthz HTTP/1.1",
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
        ),
        200,
    ),
    Row(
        "an upgrade to a WebSocket",
        request(
            "GET /healthz HTTP/1.1",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ),
        400,
        "invalid-request",
    ),
    Row(
        "a body that waits to be asked for",
        request("POST /v1/jobs HTTP/1.1", JSON, "Expect: 100-continue", body=JOB),
        202,
        writes=1,
    ),
]

ROWS = [*LENGTHS, *CODINGS, *HEADERS, *STREAMS]
