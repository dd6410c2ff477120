"""Credentials that are wrong, of somebody else, or made up."""

import base64

from tests.acceptance.hostile.row import JOB, JSON, Row, get, post, request

NOBODY = "unauthenticated"
FORM = "Content-Type: application/x-www-form-urlencoded"
WHERE = "/v1/jobs/@JOB@"


def offered(name: str, *headers: str | bytes, status: int = 401, code: str | None = NOBODY) -> Row:
    return Row(name, request(f"GET {WHERE} HTTP/1.1", *headers, key=None), status, code)


def token(name: str, word: str, status: int = 401, code: str | None = NOBODY) -> Row:
    return get(f"a token: {name}", WHERE, status, code, key=f"@{word}@")


def basic(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def form(name: str, content: str, status: int, code: str, *headers: str, kind: str = FORM) -> Row:
    return post(f"/oauth/token: {name}", content, status, code, *headers, to="/oauth/token", kind=kind, key=None)


KEYS = [
    offered("no credentials"),
    offered("empty credentials", "Authorization:"),
    offered("a scheme alone", "Authorization: Bearer"),
    offered("a scheme and blanks", "Authorization: Bearer    "),
    offered("a scheme that is none", "Authorization: Jobmill @KEY@"),
    offered("a key alone", "Authorization: @KEY@"),
    offered("a key by Basic", f"Authorization: Basic {basic('a:b')}"),
    offered("a key by Digest", 'Authorization: Digest username="a"'),
    offered("two keys in one line", "Authorization: Bearer @KEY@, Bearer @KEY@"),
    offered("a key and something else", "Authorization: Bearer @KEY@ x"),
    offered("a key behind a tab", "Authorization: Bearer\t@KEY@"),
    offered("a key in another header", "X-Authorization: Bearer @KEY@"),
    offered("a key in a header with an underscore", "HTTP_AUTHORIZATION: Bearer @KEY@"),
    offered("a key in a cookie", "Cookie: Authorization=Bearer @KEY@"),
    offered("a key of NUL", b"Authorization: Bearer \xff\xfe"),
    get("a key in the address", f"{WHERE}?access_token=@KEY@", 401, NOBODY, key=None),
    *(
        get(f"a key: {name}", WHERE, 401, NOBODY, key=key)
        for name, key in {
            "with a letter more": "@KEY@x",
            "in capitals": "JM_@ID@_@SECRET@",
            "without its secret": "jm_@ID@",
            "without its secret but the line": "jm_@ID@_",
            "with another's secret": "jm_@OTHER_ID@_@SECRET@",
            "with the secret before it": "jm_@SECRET@_@ID@",
            "of nobody": "jm_nobody_0123456789abcdefghij",
            "revoked": "@REVOKED@",
            "with a wildcard": "jm_%_@SECRET@",
            "with SQL": "jm_'OR'1'='1_@SECRET@",
            "with a blank that has no width": "@KEY@\N{ZERO WIDTH SPACE}",
            "with a turn": "\N{RIGHT-TO-LEFT OVERRIDE}@KEY@",
            "with a Cyrillic letter": "jm_\N{CYRILLIC SMALL LETTER A}cceptance_@SECRET@",
            "with a wide letter": "\N{FULLWIDTH LATIN SMALL LETTER J}m_@ID@_@SECRET@",
            "with a wide line": "jm\N{FULLWIDTH LOW LINE}@ID@_@SECRET@",
            "with wide digits": "jm_@ID@_\N{FULLWIDTH DIGIT ONE}\N{FULLWIDTH DIGIT TWO}345678901234567",
            "with a long s": "jm_acceptance_\N{LATIN SMALL LETTER LONG S}@SECRET@",
            "of 8000 letters": f"jm_{'a' * 8000}_@SECRET@",
            "of points": "...",
            "of two points": "jm_@ID@.@SECRET@.x",
        }.items()
    ),
    get("another tenant's key reads no job of ours", WHERE, 404, "not-found", key="@OTHER@"),
    post(
        "another tenant's key cancels no job of ours",
        "",
        404,
        "not-found",
        to=f"{WHERE}/cancel",
        key="@OTHER@",
        closes=True,
        kind="",
    ),
    Row(
        "another tenant's key revokes none of ours",
        request("DELETE /v1/keys/@ID@ HTTP/1.1", key="@OTHER@"),
        404,
        "not-found",
    ),
    post("a viewer's key submits nothing", JOB, 403, "forbidden", key="@VIEWER@"),
    get("a viewer's key reads no audit log of others", "/v1/keys?tenant=other", 400, "invalid-request", key="@VIEWER@"),
    Row("a viewer's key revokes nothing", request("DELETE /v1/keys/@ID@ HTTP/1.1", key="@VIEWER@"), 403, "forbidden"),
]

GOOD = [token("of the outside issuer", "GOOD", 200, None), token("of ours", "TOKEN", 200, None)]
TOKENS = [
    token(word.lower().replace("_", " "), word)
    for word in (
        *(
            "EXPIRED",
            "NEVER_EXPIRES",
            "EXPIRES_IN_WORDS",
            "EXPIRES_TRULY",
            "EXPIRES_BEYOND_ALL",
            "EXPIRES_NEVER_A_NUMBER",
        ),
        *("NOT_YET", "FROM_THE_FUTURE", "NO_AUDIENCE", "OTHER_AUDIENCE", "AUDIENCE_WITHIN", "AUDIENCE_OF_OBJECTS"),
        *(
            "NO_ISSUER",
            "OTHER_ISSUER",
            "ISSUER_WITH_SLASH",
            "ISSUER_LIST",
            "NOBODY",
            "EMPTY_SUBJECT",
            "FORGING_SUBJECT",
        ),
        *(
            "NUMBER_SUBJECT",
            "REPEATED_CLAIM",
            "REPEATED_HEADER",
            "CLAIMS_IN_A_LIST",
            "CLAIMS_ARE_NONE",
            "CLAIMS_TOO_DEEP",
        ),
        *("NESTED", "NO_TYPE", "OTHER_TYPE", "NO_KEY", "UNKNOWN_KEY", "NUMBER_KEY", "LIST_KEY", "PATH_KEY", "SQL_KEY"),
        *("NUL_KEY", "LONG_KEY", "CRITICAL", "UNENCODED", "SMALL_ALGORITHM", "OTHER_ALGORITHM", "NO_ALGORITHM"),
        *(
            "WRONG_SIGNATURE",
            "CUT_SIGNATURE",
            "NO_SIGNATURE",
            "PADDED",
            "OTHER_BODY",
            "FOUR_PARTS",
            "FIVE_PARTS",
        ),
        *("OUR_NONE", "OUR_NONE_SIGNED", "OUR_NONE_SPELT", "OUR_SECRET_KEY", "OUR_SECRET_JWK", "OUR_SECRET_PEM"),
        *("OUR_SECRET_EMPTY", "OUR_SECRET_AS_EDDSA", "OUR_BY_NOBODY", "OUR_BY_ITS_OWN_KEY", "OUR_BY_ITS_URL"),
        *("OUR_BY_ITS_CERTIFICATE", "OUR_BY_NULL_KEY", "OUR_BY_THE_OUTSIDE", "OUR_WITH_MORE", "OUR_OF_ANOTHER"),
    )
]
SCOPES = [
    get("a token of more than a header", WHERE, 431, "headers-too-large", key="@TOO_LARGE@", closes=True),
    token("without a scope", "NO_SCOPE", 403, "forbidden"),
    post("a token of an outside reader submits nothing", JOB, 403, "forbidden", key="@GOOD@"),
]

GRANT = "grant_type=client_credentials"
FORMS = [
    form("no client", GRANT, 401, "invalid_client"),
    form("a wrong secret", f"{GRANT}&client_id=@ID@&client_secret=0123456789abcdefghij", 401, "invalid_client"),
    form("another's secret", f"{GRANT}&client_id=@OTHER_ID@&client_secret=@SECRET@", 401, "invalid_client"),
    form("SQL for a client", f"{GRANT}&client_id=%27%20OR%201=1&client_secret=@SECRET@", 401, "invalid_client"),
    form("NUL in a client", f"{GRANT}&client_id=@ID@%00&client_secret=@SECRET@", 401, "invalid_client"),
    form("a client that brings the line", f"{GRANT}&client_id=@ID@_@SECRET@&client_secret=", 401, "invalid_client"),
    form("no grant", "client_id=@ID@&client_secret=@SECRET@", 400, "invalid_request"),
    form(
        "a grant by password",
        "grant_type=password&client_id=@ID@&client_secret=@SECRET@",
        400,
        "unsupported_grant_type",
    ),
    form("a grant twice", f"{GRANT}&{GRANT}&client_id=@ID@&client_secret=@SECRET@", 400, "invalid_request"),
    form("a scope beyond", f"{GRANT}&client_id=@ID@&client_secret=@SECRET@&scope=root", 400, "invalid_scope"),
    form("200 parameters", "&".join(f"a{number}=b" for number in range(200)), 400, "invalid_request"),
    form("JSON", '{"grant_type":"client_credentials"}', 400, "invalid_request", kind=JSON),
    form("bytes that are no text", "grant_type=%ff", 400, "invalid_request"),
    form("Basic of nothing", GRANT, 401, "invalid_client", "Authorization: Basic"),
    form("Basic that is no base64", GRANT, 401, "invalid_client", "Authorization: Basic ###"),
    form("Basic without a colon", GRANT, 401, "invalid_client", f"Authorization: Basic {basic('abc')}"),
    form("Bearer", GRANT, 401, "invalid_client", "Authorization: Bearer @KEY@"),
    form(
        "two ways at once", f"{GRANT}&client_secret=x", 400, "invalid_request", f"Authorization: Basic {basic('a:b')}"
    ),
]

ROWS = [*KEYS, *GOOD, *TOKENS, *SCOPES, *FORMS]
