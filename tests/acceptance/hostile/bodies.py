"""Bodies that are no JSON, or JSON that two readers take for two things; types and sizes that are none of ours."""

import gzip

from tests.acceptance.hostile.row import JOB, get, post

JSON_FLAW, INVALID, TYPE = "malformed-json", "invalid-request", "unsupported-media-type"
KIND = "Content-Type: "


def job(value: str) -> str:
    """A submission with this text as an argument."""
    return f'{{"type":"demo.echo","args":{{"value":{value}}},"delay_seconds":86400}}'


def twice(member: str) -> str:
    return f'{{"type":"demo.echo","delay_seconds":86400,{member}}}'


NO_JSON = [
    *(
        post(f"JSON: {name}", body, 400, JSON_FLAW)
        for name, body in {
            "a member twice": twice('"args":{"value":1},"args":{"value":2}'),
            "the type twice": twice('"type":"demo.fail"'),
            "a member twice by an escape": twice('"queue":"a","\\u0071ueue":"b"'),
            "a member twice, deep inside": job('[{"a":1,"a":2}]'),
            "NaN": job("NaN"),
            "Infinity": job("Infinity"),
            "-Infinity": job("-Infinity"),
            "1e400": job("1e400"),
            "2^63": job("9223372036854775808"),
            "a whole number of 5000 digits": job("9" * 5000),
            "a number with a plus": job("+1"),
            "a number with a nought before": job("01"),
            "a number by hex": job("0x1"),
            "a number with an underscore": job("1_000"),
            "a number of another script": job("\N{ARABIC-INDIC DIGIT ONE}"),
            "65 levels": job("[" * 65 + "]" * 65),
            "100,000 levels": job("[" * 100_000 + "]" * 100_000),
            "100,000 levels without an end": "[" * 100_000,
            "100,000 objects": '{"a":' * 100_000,
            "a high surrogate alone": job('"\\ud800"'),
            "a low surrogate alone": job('"\\udfff"'),
            "surrogates in the wrong order": job('"\\udc00\\ud800"'),
            "a surrogate in a name": job('{"\\ud800":1}'),
            "NUL by an escape": job('"\\u0000"'),
            "NUL in a name": job('{"a\\u0000":1}'),
            "NUL": job('"\0"'),
            "a bare line feed in a text": job('"a\nb"'),
            "a bare escape in a text": job('"\x1b[31m"'),
            "an unknown escape": job('"\\x41"'),
            "half an escape": job('"\\u00"'),
            "a mark before it": "\N{ZERO WIDTH NO-BREAK SPACE}" + JOB,
            "something behind it": JOB + "x",
            "another one behind it": JOB + JOB,
            "NUL behind it": JOB + "\0",
            "a comment": JOB.replace(",", ",/* x */", 1),
            "a comma too many": JOB[:-1] + ",}",
            "single quotes": JOB.replace('"', "'"),
            "a name without quotes": "{type:1}",
            "no end": JOB[:-1],
            "nothing but blanks": "   ",
            "a blank that is none": "\N{NO-BREAK SPACE}" + JOB,
            "True": job("True"),
            "a script's guard": ")]}',\n" + JOB,
        }.items()
    ),
    *(
        post(f"JSON: {name}", body, 400, JSON_FLAW)
        for name, body in {
            "UTF-16": JOB.encode("utf-16"),
            "UTF-16 without a mark": JOB.encode("utf-16-le"),
            "UTF-32": JOB.encode("utf-32"),
            "UTF-7": b"+AHs-}",
            "latin-1": job('"\xe4"').encode("latin-1"),
            "an overlong slash": job('"@"').encode().replace(b"@", b"\xc0\xaf"),
            "an overlong NUL": job('"@"').encode().replace(b"@", b"\xc0\x80"),
            "an encoded surrogate": job('"@"').encode().replace(b"@", b"\xed\xa0\x80"),
            "beyond Unicode": job('"@"').encode().replace(b"@", b"\xf4\x90\x80\x80"),
            "half a character": job('"@"').encode().replace(b"@", b"\xe2\x82"),
            "gzip": gzip.compress(JOB.encode()),
        }.items()
    ),
]

OTHER_SHAPES = [
    *(
        post(f"a document that is {body[:12]}", body, 400, INVALID)
        for body in ("null", "1", '"x"', "[]", f"[{JOB}]", "true", "{}", '{"__proto__":{"type":"demo.echo"}}')
    ),
    *(
        post(f"a job with {name}", f'{{"type":"demo.echo","delay_seconds":86400,{members}}}', 400, INVALID)
        for name, members in {
            "an unknown member": '"state":"succeeded"',
            "an id of its own": '"id":"01890000-0000-7000-8000-000000000000"',
            "a tenant of its own": '"tenant_id":"01890000-0000-7000-8000-000000000000"',
            "a lookalike of a member": '"qu\N{CYRILLIC SMALL LETTER IE}ue":"x"',
            "args that are a list": '"args":[]',
            "args that are a text": '"args":"{}"',
            "a priority by a text": '"priority":"1"',
            "a priority beyond all": '"priority":101',
            "a priority by true": '"priority":true',
            "a queue with a path": '"queue":"../x"',
            "a queue with SQL": '"queue":"x\'; DROP TABLE jobs; --"',
            "a queue in capitals": '"queue":"Default"',
            "a queue of lookalikes": '"queue":"d\N{CYRILLIC SMALL LETTER IE}fault"',
            "a queue with a line feed": '"queue":"default\\n"',
            "a delay below nothing": '"delay_seconds_":-1',
            "no attempts": '"max_attempts":0',
            "attempts beyond all": '"max_attempts":9223372036854775807',
            "no time": '"timeout_seconds":0',
            "a time in words": '"due_at":"tomorrow"',
            "a time of no zone": '"due_at":"2027-01-01T00:00:00"',
            "a time by a number": '"due_at":1',
            "a time by a number in a text": '"due_at":"1"',
            "a time before all": '"due_at":"0001-01-01T00:00:00Z"',
            "a time behind all": '"due_at":"9999-12-31T23:59:59Z"',
            "an empty unique_key": '"unique_key":""',
            "a unique_key of 256": f'"unique_key":"{"x" * 256}"',
            "17 tags": '"tags":{' + ",".join(f'"t{number}":"x"' for number in range(17)) + "}",
            "a tag that is a number": '"tags":{"a":1}',
            "an empty tag": '"tags":{"":"x"}',
        }.items()
    ),
    *(
        post(f"the job type {job_type!r}", f'{{"type":"{job_type}","delay_seconds":86400}}', 400, INVALID)
        for job_type in (
            *(
                "",
                "Demo.Echo",
                "demo.echo ",
                "demo.echo\\n",
                "demo\N{ONE DOT LEADER}echo",
                "d\N{CYRILLIC SMALL LETTER IE}mo.echo",
            ),
            *(
                "\N{FULLWIDTH LATIN SMALL LETTER D}emo.echo",
                "' OR 1=1 --",
                "__import__",
                "os.system",
                "x" * 101,
                "../demo.echo",
            ),
            *('\\r\\n{\\"event\\":\\"forged\\",\\"level\\":\\"error\\"}', "\\u001b[2J\\u001b[31mforged"),
        )
    ),
    post("a batch of nothing", '{"jobs":[]}', 400, INVALID, to="/v1/jobs/batch"),
    post("a batch of 1001", f'{{"jobs":[{",".join(["1"] * 1001)}]}}', 400, INVALID, to="/v1/jobs/batch"),
    post("a batch that is a list", f"[{JOB}]", 400, INVALID, to="/v1/jobs/batch"),
    post(
        "a batch with a flaw, all or none",
        f'{{"jobs":[{JOB},{{}}]}}',
        409,
        "batch-refused",
        to="/v1/jobs/batch?atomic=true",
    ),
    post(
        "a batch with atomic twice", f'{{"jobs":[{JOB}]}}', 400, INVALID, to="/v1/jobs/batch?atomic=true&atomic=false"
    ),
    post(
        "a key with every scope by a viewer",
        '{"name":"x","role":"admin"}',
        403,
        "forbidden",
        to="/v1/keys",
        key="@VIEWER@",
    ),
    post("a key for another tenant", '{"name":"x","role":"viewer","tenant":"other"}', 403, "forbidden", to="/v1/keys"),
    post("a key named by an escape", '{"name":"\\u001b[31mx","role":"viewer"}', 400, INVALID, to="/v1/keys"),
    post("a key named by a turned text", '{"name":"x\\u202ey","role":"viewer"}', 400, INVALID, to="/v1/keys"),
]

TYPES = [
    *(
        post(f"the type {kind!r}", JOB, 415, TYPE, kind=f"Content-Type: {kind}")
        for kind in (
            *("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json", "*/*"),
            *(
                "application/json, text/plain",
                "text/plain; application/json",
                "application/json+x",
                "application/problem+json",
            ),
            *(
                "application/x-ndjson",
                "application",
                "application/",
                "/json",
                "application/json\N{FULLWIDTH SEMICOLON}x",
                '""',
            ),
        )
    ),
    post("no type", JOB, 415, TYPE, kind=""),
    post("a compressed body", gzip.compress(JOB.encode()), 415, TYPE, "Content-Encoding: gzip"),
    post("a bomb", gzip.compress(b" " * 50_000_000), 415, TYPE, "Content-Encoding: gzip"),
    post("a body that says it is compressed", JOB, 415, TYPE, "Content-Encoding: gzip"),
    post("a body in brotli", JOB, 415, TYPE, "Content-Encoding: br"),
    post("a body in two encodings", JOB, 415, TYPE, "Content-Encoding: identity, gzip"),
    post(
        "a type in capitals with another charset",
        JOB,
        202,
        None,
        kind="Content-Type: APPLICATION/JSON; charset=latin-1",
        writes=1,
    ),
]

SIZES = [
    post("a body of a byte too many", JOB + " " * (2**20 + 1 - len(JOB)), 413, "body-too-large"),
    post("a body of 16 MiB", " " * 2**24, 413, "body-too-large"),
    post("a body of 1 MiB of nothing", " " * 2**20, 400, JSON_FLAW),
    post("args of 257 KiB", job(f'"{"x" * 257 * 1024}"'), 413, "args-too-large"),
    post("a body of 1 MiB of brackets", "[" * 2**20, 400, JSON_FLAW),
    post("a body of 1 MiB of members", "{" + ",".join(f'"{number}":0' for number in range(70_000)) + "}", 400, INVALID),
    post("a large body without a key", JOB + " " * 2**20, 413, "body-too-large", key=None),
    post("a submission without a body", "", 400, JSON_FLAW, "Content-Length: 0"),
    get("a page that nobody knows", "/v1/jobs?limit=1&page=2", 400, INVALID),
]

ROWS = [*NO_JSON, *OTHER_SHAPES, *TYPES, *SIZES]
