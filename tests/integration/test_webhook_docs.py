"""The code on the pages of docs/webhooks/, run as it stands there against what we sign."""

import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from jobs.builtin.webhook import DEADLINE_SECONDS, WAITS
from jobs.receivers import GIVEN_UP_AFTER
from jobs.signing import headers
from jobs.webhook_secrets import OVERLAP
from jobs.webhooks import DISABLED, SUBSCRIBED, TEST
from tests.acceptance.documents import examples
from tests.acceptance.process import free_port

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "webhooks"
SECRET = "whsec_" + b64encode(bytes(range(32))).decode()
OTHER_SECRET = "whsec_" + b64encode(bytes(range(1, 25))).decode()
MESSAGE_ID = "evt_" + "0123456789abcdef" * 2
BODY = '{"type":"job.succeeded","timestamp":"2027-01-01T00:00:00Z","data":{"name":"東京, é"}}'.encode()
RUN_SECONDS = 60


@dataclass(frozen=True)
class Request:
    """What a receiver gets."""

    headers: Mapping[str, str]
    body: bytes = BODY
    secret: str = SECRET


def signed(body: bytes = BODY, *, seconds: int = 0, by: tuple[str, ...] = (SECRET,), **changed: str) -> Request:
    fields = headers(by, MESSAGE_ID, int(time.time()) + seconds, body)
    return Request({name: changed.get(name.removeprefix("webhook-"), value) for name, value in fields.items()}, body)


def of_other_versions() -> Request:
    request = signed()
    fitting = request.headers["webhook-signature"]
    return signed(signature=f"v1a,x v2,{fitting.removeprefix('v1,')} v1,AAAA {fitting}")


def with_another(request: Request, body: bytes) -> Request:
    return Request(request.headers, body)


# Called in the test: what is signed must be fresh.
GOOD: dict[str, Callable[[], Request]] = {
    "as it was sent": signed,
    "at both ends of five minutes": lambda: signed(seconds=-290),
    "a little ahead": lambda: signed(seconds=290),
    "empty data": lambda: signed(b'{"type":"webhook.test","timestamp":"2027-01-01T00:00:00Z","data":{}}'),
    "256 KiB": lambda: signed(b'{"data":"' + b"x" * (256 * 1024 - 11) + b'"}'),
    "by two secrets, this the second": lambda: signed(by=(OTHER_SECRET, SECRET)),
    "by two secrets, this the first": lambda: signed(by=(SECRET, OTHER_SECRET)),
    "among other versions": of_other_versions,
}
BAD: dict[str, Callable[[], Request]] = {
    "another body": lambda: with_another(signed(), BODY.replace("é".encode(), b"e")),
    "a longer body": lambda: with_another(signed(), BODY + b"\n"),
    "no body": lambda: with_another(signed(), b""),
    "another id": lambda: signed(id="evt_" + "f" * 32),
    "another time": lambda: signed(timestamp=str(int(time.time()) - 7)),
    "another secret": lambda: signed(by=(OTHER_SECRET,)),
    "old": lambda: signed(seconds=-320),
    "from the future": lambda: signed(seconds=320),
    "no number for a time": lambda: signed(timestamp="soon"),
    "a command for a time": lambda: signed(timestamp="PATH[$(touch touched)]"),
    "no signature": lambda: signed(signature=""),
    "half a signature": lambda: signed(signature="v1"),
    "an empty signature": lambda: signed(signature="v1,"),
    "a signature that is no base64": lambda: signed(signature="v1,* *"),
    "only of another version": lambda: signed(signature=signed().headers["webhook-signature"].replace("v1,", "v2,")),
    "a signature without version": lambda: signed(signature=signed().headers["webhook-signature"].removeprefix("v1,")),
}


def block(page: str, language: str, number: int = 0) -> str:
    return examples((PAGES / page).read_text(encoding="utf-8"), language)[number].text


DRIVERS = {
    "drive.py": """
import base64, json, sys
from webhook import event_of
requests = json.load(sys.stdin)
events = [event_of(each["secret"], each["headers"], base64.b64decode(each["body"])) for each in requests]
print(json.dumps([event is not None for event in events]))
""",
    "drive.js": """
const { eventOf } = require("./webhook.js");
const requests = JSON.parse(require("node:fs").readFileSync(0));
const events = requests.map((each) => eventOf(each.secret, each.headers, Buffer.from(each.body, "base64")));
console.log(JSON.stringify(events.map((event) => event !== null)));
""",
    "drive.go": """
package main

import (
	"encoding/json"
	"net/http"
	"os"
)

func main() {
	var requests []struct {
		Secret  string
		Headers map[string]string
		Body    []byte
	}
	if err := json.NewDecoder(os.Stdin).Decode(&requests); err != nil {
		panic(err)
	}
	found := []bool{}
	for _, each := range requests {
		header := http.Header{}
		for name, value := range each.Headers {
			header.Set(name, value)
		}
		found = append(found, verified(each.Secret, header, each.Body))
	}
	json.NewEncoder(os.Stdout).Encode(found)
}
""",
}


def run(command: list[str], folder: Path, given: bytes, **variables: str) -> "subprocess.CompletedProcess[bytes]":
    environment = os.environ | variables
    return subprocess.run(
        command, cwd=folder, env=environment, input=given, capture_output=True, timeout=RUN_SECONDS, check=False
    )


def driven(page: str, language: str, suffix: str, command: list[str]) -> Callable[[list[Request], Path], list[bool]]:
    """Runs a page's code with a driver of its language, which answers for all requests at once."""

    def verdicts(requests: list[Request], folder: Path) -> list[bool]:
        (folder / f"webhook.{suffix}").write_text(block(page, language), encoding="utf-8")
        (folder / f"drive.{suffix}").write_text(DRIVERS[f"drive.{suffix}"], encoding="utf-8")
        given = [each.__dict__ | {"body": b64encode(each.body).decode()} for each in requests]
        done = run(command, folder, json.dumps(given).encode(), GO111MODULE="off")
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    return verdicts


def by_hand(requests: list[Request], folder: Path) -> list[bool]:
    """Runs the page's script, once a request."""
    (folder / "verify.sh").write_text(block("verify-openssl.md", "bash"), encoding="utf-8")
    found = []
    for each in requests:
        variables = {name.upper().replace("-", "_"): value for name, value in each.headers.items()}
        done = run(["bash", "verify.sh"], folder, each.body, WEBHOOK_SECRET=each.secret, **variables)
        found.append((done.returncode, done.stdout) == (0, b"verified\n"))
    return found


WAYS = {
    "python": (sys.executable, driven("verify-python.md", "python", "py", [sys.executable, "drive.py"])),
    "openssl": ("openssl", by_hand),
    "javascript": ("node", driven("verify-javascript.md", "javascript", "js", ["node", "drive.js"])),
    "go": ("go", driven("verify-go.md", "go", "go", ["go", "run", "webhook.go", "drive.go"])),
}
# Jobmill needs neither program. Where one is missing, the page's code must be what was run where it was there.
RAN = {
    "javascript": "3a5122807c17dcc3258e7c1333c56c0d9e59f91d6e3dc9c007ba155054cd57d6",
    "go": "caf1108adc79adb065f3ddd65ecdfdd3725709dd6d3245d8e9f23275c89b0e2a",
}
RUNNABLE = [name for name, (program, _) in WAYS.items() if name not in RAN or shutil.which(program)]


@pytest.mark.parametrize("language", RUNNABLE)
def test_the_code_of_the_page_takes_what_we_sign_and_nothing_else(language: str, tmp_path: Path):
    program, verdicts = WAYS[language]
    assert shutil.which(program), (
        f"{program} is missing. Install it: it comes with every Debian and Ubuntu by its name."
    )
    expected = dict.fromkeys(GOOD, True) | dict.fromkeys(BAD, False)
    found = verdicts([make() for make in [*GOOD.values(), *BAD.values()]], tmp_path)
    assert dict(zip(expected, found, strict=True)) == expected
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("language", RAN)
def test_code_that_cannot_be_run_everywhere_is_what_was_run(language: str):
    program, _ = WAYS[language]
    digest = hashlib.sha256(block(f"verify-{language}.md", language).encode()).hexdigest()
    assert digest == RAN[language], f"The code changed. Run this file where {program} is installed, then note {digest}."


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[str]:
    """The address of the receiver that the page on Python shows."""
    for number, name in enumerate(["webhook.py", "receiver.py"]):
        (tmp_path / name).write_text(block("verify-python.md", "python", number), encoding="utf-8")
    port = free_port()
    environment = os.environ | {"WEBHOOK_SECRET": SECRET, "PORT": str(port)}
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen([sys.executable, "receiver.py"], cwd=tmp_path, env=environment, stderr=log) as process,
    ):
        yield f"http://127.0.0.1:{port}/"
        process.terminate()


def answer(address: str, request: Request) -> int:
    call = urllib.request.Request(address, request.body, dict(request.headers))  # noqa: S310 - our own receiver
    try:
        with urllib.request.urlopen(call, timeout=5) as response:  # noqa: S310
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_the_receiver_of_the_page_takes_each_event_once(receiver: str, tmp_path: Path, eventually):
    def answers() -> bool:
        with suppress(urllib.error.URLError):
            return answer(receiver, BAD["another body"]()) == 401
        return False

    eventually(answers)
    assert [answer(receiver, each) for each in (signed(), signed(seconds=3), signed(seconds=-320))] == [204, 204, 401]
    with sqlite3.connect(tmp_path / "webhooks.db") as database:
        kept = database.execute("SELECT id, body FROM webhook_events").fetchall()
    database.close()
    assert kept == [(MESSAGE_ID, BODY.decode())]


def test_the_statement_of_the_page_adds_an_event_once():
    with sqlite3.connect(":memory:") as database:
        database.execute(block("README.md", "sql", 0))
        add = block("README.md", "sql", 1)
        event = {"id": MESSAGE_ID, "body": BODY.decode()}
        assert [database.execute(add, event).rowcount for _ in range(3)] == [1, 0, 0]
    database.close()


def test_the_event_on_the_page_is_an_abridged_job_of_the_api():
    event = json.loads(block("README.md", "json"))
    described = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))["components"]["schemas"]["Job"]
    assert list(event) == ["type", "timestamp", "data"]
    assert event["data"].keys() <= described["properties"].keys()


def test_the_page_tells_every_event_and_no_other():
    told = re.findall(r"^\| `(\w+\.\w+)` \|", (PAGES / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert told == [*SUBSCRIBED, TEST, DISABLED]


def test_the_page_tells_how_long_we_wait():
    *waits, last = [duration(wait) for wait in WAITS]
    page = (PAGES / "README.md").read_text(encoding="utf-8")
    assert f"after about {', '.join(waits)} and {last}" in page
    assert f"in {DEADLINE_SECONDS:g} s" in page
    assert f"fail for {GIVEN_UP_AFTER.days} days" in page
    assert f"{OVERLAP.total_seconds() / 3600:g} hours unless chosen otherwise" in page


def duration(wait: timedelta) -> str:
    seconds = int(wait.total_seconds())
    unit, size = next((unit, size) for unit, size in (("h", 3600), ("min", 60), ("s", 1)) if not seconds % size)
    return f"{seconds // size} {unit}"
