"""What a browser is told and shown: security headers, origins, the pages for problems, the page of the API."""

import re
from typing import Any

import pytest

from api.kinds import KINDS
from models.database import Database
from tests.doors import JOBS, Caller, Doors, assert_problem

HERE = "https://console.example.org"


@pytest.fixture(scope="module")
def doors(shared_sqlite: Any) -> Doors:
    return Doors(shared_sqlite)


@pytest.fixture
def nobody(doors: Doors) -> Caller:
    return Caller(doors, None)


# Security headers

PATHS = [
    JOBS,
    "/nothing",
    "/healthz",
    "/readyz",
    "/v1/job-types",
    "/openapi.json",
    "/docs",
    "/docs/start.js",
    "/docs/swagger-ui.css",
    "/problems/not-found",
    "/problems/none",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "BREW"])
def test_every_answer_says_that_a_browser_may_do_nothing_with_it(doors: Doors, path: str, method: str):
    headers = doors.caller().request(method, path).headers
    assert headers["Jobmill-Version"] == "0.0.test"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert len(headers.getlist("Content-Security-Policy")) == 1
    assert "Strict-Transport-Security" not in headers
    assert "Access-Control-Allow-Origin" not in headers
    assert "Set-Cookie" not in headers


@pytest.mark.parametrize(
    "path", [JOBS, f"{JOBS}/1", "/v1/job-types", "/v1/workers", "/v1/nothing", "/healthz", "/readyz"]
)
def test_what_may_hold_a_tenants_data_may_not_be_kept(doors: Doors, path: str):
    for caller in (doors.caller(), Caller(doors, None)):
        assert caller.get(path).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("peer", "proto", "told"),
    [
        ("10.0.0.1", "https", True),
        ("10.0.0.1", "HTTPS", True),
        ("10.0.0.1", "http", False),
        ("10.0.0.1", "https, http", False),  # what the proxy itself says stands last
        ("10.0.0.1", "http, https", True),
        ("10.0.0.1", "", False),
        ("192.0.2.7", "https", False),
        ("127.0.0.1", "https", False),
        ("", "https", False),
    ],
)
def test_https_is_asked_for_where_a_trusted_proxy_says_that_it_speaks_it(
    database: Database, peer: str, proto: str, *, told: bool
):
    nobody = Caller(Doors(database, trusted_proxies="10.0.0.0/24"), None)
    headers = {"X-Forwarded-Proto": proto}
    answer = nobody.request("GET", "/healthz", headers, environ_overrides={"REMOTE_ADDR": peer})
    assert answer.headers.get("Strict-Transport-Security") == ("max-age=31536000" if told else None)


# Other origins


@pytest.fixture(scope="module")
def shared(shared_sqlite: Any) -> Doors:
    return Doors(shared_sqlite, cors_origins=f"{HERE},http://localhost:3000")


def preflight(caller: Caller, origin: str, path: str = JOBS) -> Any:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    return Caller(caller.doors, None).request("OPTIONS", path, headers=asked)


@pytest.mark.parametrize("origin", [HERE, "http://localhost:3000"])
def test_a_page_of_a_configured_origin_may_call(shared: Doors, origin: str):
    caller = shared.caller()
    asked = preflight(caller, origin).headers
    assert asked["Access-Control-Allow-Origin"] == origin
    assert "POST" in asked["Access-Control-Allow-Methods"]
    assert "authorization" in asked["Access-Control-Allow-Headers"].lower()
    for answer in (caller.get(JOBS, Origin=origin), caller.get(f"{JOBS}/none", Origin=origin)):
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
        assert "Origin" in answer.headers["Vary"]
        assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        f"{HERE}.evil.example",
        f"{HERE}:8443",
        "http://console.example.org",
        "https://consoleXexample.org",
        "https://x.console.example.org",
        "null",
        "*",
        "",
    ],
)
def test_a_page_of_any_other_origin_may_not(shared: Doors, origin: str):
    caller = shared.caller()
    for answer in (preflight(caller, origin), caller.get(JOBS, Origin=origin)):
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Origin" in caller.get(JOBS, Origin=origin).headers["Vary"]


def test_without_configured_origins_nobody_is_told_anything(doors: Doors):
    caller = doors.caller()
    for answer in (preflight(caller, HERE), caller.get(JOBS, Origin=HERE)):
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]


@pytest.mark.parametrize("path", ["/docs", "/healthz", "/readyz", "/problems/not-found"])
def test_only_the_api_is_shared(shared: Doors, path: str):
    assert "Access-Control-Allow-Origin" not in Caller(shared, None).get(path, Origin=HERE).headers


# Problems


@pytest.mark.parametrize(("code", "kind"), KINDS.items())
def test_every_problem_has_a_page_that_explains_it(nobody: Caller, code: str, kind: Any):
    answer = nobody.get(f"/problems/{code}")
    assert (answer.status_code, answer.content_type) == (200, "text/html; charset=utf-8")
    text = re.sub(r"<[^>]+>", "", re.sub(r"<style>.*?</style>", "", answer.text)).replace("&#x27;", "'")
    for told in (kind.title, f"HTTP {kind.status}", "Why", "What to do"):
        assert told in text
    for words in (kind.why, kind.advice):
        assert re.sub(r"\W+", "", words) in re.sub(r"&\w+;|\W+", "", text.replace("&lt;", "").replace("&gt;", ""))
    assert "<script" not in answer.text
    assert nobody.get(f"/problems/{code}", If_None_Match=answer.headers["ETag"]).status_code == 304


@pytest.mark.parametrize("code", ["none", "<script>", "%3Cscript%3E", "internal-error%00", "../docs"])
def test_a_problem_that_does_not_exist_has_no_page(nobody: Caller, code: str):
    answer = nobody.get(f"/problems/{code}")
    assert_problem(answer, 404, "not-found")
    assert "<script>" not in answer.json["detail"]


# The page of the API


def test_the_page_brings_all_that_it_needs(nobody: Caller):
    page = nobody.get("/docs")
    assert page.status_code == 200
    needed = re.findall(r"(?:src|href)=(/docs/\S+?)[ >]", page.text)
    assert len(needed) == 4
    for path in needed:
        part = nobody.get(path)
        assert part.status_code == 200, path
        assert len(part.data) > 100
    assert not re.search(r"https?://", page.text + nobody.get("/docs/start.js").text)
    assert 'url: "/openapi.json"' in nobody.get("/docs/start.js").text


def test_the_pages_policy_lets_it_run_its_own_scripts_and_ask_its_own_server_only(nobody: Caller):
    policy = dict(
        part.strip().split(" ", 1) for part in nobody.get("/docs").headers["Content-Security-Policy"].split(";")
    )
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert "<script>" not in nobody.get("/docs").text, "an inline script would not run"


@pytest.mark.parametrize(
    "name", ["index.html", "oauth2-redirect.html", "LICENSE", "../flask_swagger_ui.py", "%2e%2e/__init__.py"]
)
def test_the_page_has_no_other_parts(nobody: Caller, name: str):
    assert_problem(nobody.get(f"/docs/{name}"), 404, "not-found")


def test_the_large_parts_may_be_kept(nobody: Caller):
    script = nobody.get("/docs/swagger-ui-bundle.js")
    assert "max-age=86400" in script.headers["Cache-Control"]
    assert nobody.get("/docs/swagger-ui-bundle.js", If_None_Match=script.headers["ETag"]).status_code == 304
