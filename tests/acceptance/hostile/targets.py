"""Methods, addresses and versions that nobody in his right mind sends."""

from tests.acceptance.hostile.row import JOB, JSON, Row, get, post, raw, request

BAD, NONE, METHOD = "malformed-request", "not-found", "method-not-allowed"
LONG = "x" * 7000


def asked(name: str, line: str, status: int, code: str | None = None, *headers: str) -> Row:
    return Row(name, request(line, *headers), status, code)


def refused(name: str, line: str | bytes, status: int = 400, code: str = BAD) -> Row:
    told = line if isinstance(line, bytes) else line.encode()
    return raw(name, told + b"\r\nHost: jobmill\r\nAuthorization: Bearer @KEY@\r\n\r\n", status, code)


METHODS = [
    asked("TRACE", "TRACE /v1/jobs HTTP/1.1", 405, METHOD),
    asked("TRACK", "TRACK /v1/jobs HTTP/1.1", 405, METHOD),
    asked("PROPFIND", "PROPFIND /v1/jobs HTTP/1.1", 405, METHOD),
    asked("DEBUG", "DEBUG /v1/jobs HTTP/1.1", 405, METHOD),
    asked("PURGE", "PURGE /v1/jobs/@JOB@ HTTP/1.1", 405, METHOD),
    asked("a method of the other tenant's job", "DELETE /v1/jobs/@OTHER_JOB@ HTTP/1.1", 405, METHOD),
    asked("a method with a minus", "M-SEARCH /v1/jobs HTTP/1.1", 405, METHOD),
    asked("HEAD of an address that takes none", "HEAD /v1/jobs/batch HTTP/1.1", 405, METHOD),
    raw("CONNECT", request("CONNECT jobmill:443 HTTP/1.1"), 404, NONE),
    raw("CONNECT to an address of ours", request("CONNECT /v1/jobs HTTP/1.1"), 405, METHOD),
    refused("small letters", "get /healthz HTTP/1.1"),
    refused("one letter", "G /healthz HTTP/1.1"),
    refused("a method of 30 letters", f"{'M' * 30} /healthz HTTP/1.1"),
    refused("a method with NUL", b"GE\0T /healthz HTTP/1.1"),
    refused("a method beyond ASCII", "GËT /healthz HTTP/1.1"),
    refused("a method of nothing", " /healthz HTTP/1.1"),
    post("a method in a header", JOB, 405, METHOD, "X-HTTP-Method-Override: DELETE", to="/v1/keys/@ID@"),
    post("a method in another header", JOB, 405, METHOD, "X-Method-Override: DELETE", to="/v1/keys/@ID@"),
    post("a method in the query", JOB, 405, METHOD, to="/v1/keys/@ID@?_method=DELETE"),
    get("a method in a header of a GET", "/v1/keys/@ID@", 200, None, "X-HTTP-Method-Override: DELETE"),
]

PATHS = [
    *(
        get(f"the path {path}", path, 404, NONE)
        for path in (
            *("//healthz", "/./healthz", "/../healthz", "/v1/../healthz", "/v1//jobs", "/v1/./jobs", "/HEALTHZ"),
            *("/%2e%2e/healthz", "/v1/%2e%2e/healthz", "/v1/jobs;a=b", "/v1/jobs/;x", "/v1/jobs/..;/keys", "/healthz;"),
            *(
                "/v1%252fjobs",
                "/v1/jobs/%252e%252e",
                "/..%c0%afhealthz",
                "/%c0%ae%c0%ae/healthz",
                "/v1/%ff",
                "/%e0%80%af",
            ),
            *(
                "/%",
                "/%z",
                "/%2",
                "/%u002e/healthz",
                "/\\healthz",
                "/v1\\jobs",
                "/healthz%20",
                "/healthz%09",
                "/healthz.",
            ),
            *("/healthz%0d%0aX:%20y", "/v1/jobs/%0a", "/v1/jobs/'", '/v1/jobs/"', "/v1/jobs/<x>", "/v1/jobs/{id}"),
            *(
                "/.env",
                "/.git/config",
                "/etc/passwd",
                "/proc/self/environ",
                "/static/../settings.py",
                "/docs/../settings.py",
            ),
            *(
                "/docs/..%5c..%5csettings.py".replace("%5c", "/"),
                "/problems/../healthz",
                "/problems/%2e%2e",
                "/problems/x",
            ),
            *(
                "/v1/jobs/@JOB@%20",
                "/v1/jobs/{@JOB@}",
                "/v1/jobs/urn:uuid:@JOB@",
                "/v1/jobs/0",
                "/v1/jobs/-1",
                "/v1/jobs/None",
            ),
            *(
                "/v1/jobs/@OTHER_JOB@",
                "/v1/jobs/@OTHER_JOB@/events",
                "/v1/jobs/@OTHER_JOB@/stream",
                "/v1/keys/@OTHER_ID@",
            ),
            *(
                "/v1/keys/@ID@'--",
                "/v1/keys/%25",
                "/v1/keys/_",
                "/v1/keys/*",
                "/v1/job-types/demo.ech%6f%00".replace("%00", "x"),
            ),
            *("/v1/job-types/%27%20OR%201=1", "/v1/jobs/%27%20OR%20%271%27=%271", "/v1/jobs/1;DROP%20TABLE%20jobs"),
            *("/metrics", "/console", "/v2/jobs", "/v1", "/v1/", "/"),
        )
    ),
    *(
        refused(f"the path {path}", f"GET {path} HTTP/1.1")
        for path in (
            *("/v1%2fjobs", "/v1%2Fkeys", "/%2fhealthz", "/v1/jobs%5c..", "/v1/jobs/%00", "/healthz%00.html"),
            *("/healthz#x", "/v1/jobs#/../keys", "healthz", "v1/jobs", "*", "jobmill:8000", "?x", "#"),
        )
    ),
    refused("bytes beyond ASCII in a path", "GET /v1/jobs/ä HTTP/1.1"),
    refused("NUL in a path", b"GET /v1/jobs/\0 HTTP/1.1"),
    refused("an escape in a path", b"GET /v1/jobs/\x1b[31m HTTP/1.1"),
    refused("a blank in a path", "GET /v1/jobs/a b HTTP/1.1"),
    get("a path of 7000 bytes", f"/v1/{LONG}", 404, NONE),
    get("a job id of 7000 bytes", f"/v1/jobs/{LONG}", 404, NONE),
    get("a path of 2000 steps", "/a/.." * 1000, 404, NONE),
    refused("an address of 9 KB", f"GET /{'x' * 9000} HTTP/1.1", 414, "uri-too-long"),
    refused("a query of 9 KB", f"GET /v1/jobs?type={'x' * 9000} HTTP/1.1", 414, "uri-too-long"),
    refused("an address of 1 MB", f"GET /{'x' * 2**20} HTTP/1.1", 414, "uri-too-long"),
    refused("a line of 1 MB without an end", b"x" * 2**20, 414, "uri-too-long"),
]

FORMS = [
    asked("an absolute address", "GET http://evil.example/healthz HTTP/1.1", 200),
    asked("an absolute address by https", "GET https://evil.example/healthz HTTP/1.1", 200),
    asked("an absolute address of a file", "GET file:///etc/passwd HTTP/1.1", 404, NONE),
    asked("an absolute address with a user", "GET http://u:p@evil.example/v1/nothing HTTP/1.1", 404, NONE),
    asked("an absolute address without a path", "GET http://evil.example HTTP/1.1", 404, NONE),
    asked("the options of everything", "OPTIONS * HTTP/1.1", 404, NONE),
    asked("the options of another server", "OPTIONS http://evil.example/v1/jobs HTTP/1.1", 200),
    asked("a part of an answer", "GET /v1/jobs/@JOB@ HTTP/1.1", 200, None, "Range: bytes=0-0"),
    asked("parts beyond an answer", "GET /v1/jobs/@JOB@ HTTP/1.1", 200, None, f"Range: bytes={'0-,' * 2000}0-"),
    asked("a form that there is none of", "GET /v1/jobs/@JOB@ HTTP/1.1", 200, None, "Accept: text/html"),
    asked("a form that is nonsense", "GET /v1/jobs/@JOB@ HTTP/1.1", 200, None, f"Accept: {'*/*;q=a,' * 800}"),
    asked(
        "an encoding that there is none of", "GET /v1/jobs/@JOB@ HTTP/1.1", 200, None, "Accept-Encoding: gzip;q=9,br"
    ),
    Row("a job to another address", request("POST http://evil.example/v1/nothing HTTP/1.1", JSON, body=JOB), 404, NONE),
]

ROWS = [*METHODS, *PATHS, *FORMS]
