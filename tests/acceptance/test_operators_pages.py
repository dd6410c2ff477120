"""The pages of docs/operate/, run as an operator runs them against an embedded Jobmill, and those on webhooks."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.acceptance.documents import examples, run_shell, told
from tests.acceptance.installation import Installation
from tests.acceptance.installer import Installer
from tests.acceptance.process import JOBMILL, environment, free_port
from tests.acceptance.test_quickstart import USUAL_ADDRESS, embedded, folder
from tests.acceptance.test_webhooks import OPEN

__all__ = ["embedded", "folder"]

PATH = f"{JOBMILL.parent}:{os.environ['PATH']}"
PAGES = Path(__file__).parents[2] / "docs"
USUAL_RECEIVER = "9000"


@pytest.fixture
def calls_this_machine(request: pytest.FixtureRequest) -> Iterator[Installation]:
    with ExitStack() as stack:
        yield Installer(request, stack)("embedded", **OPEN)


@pytest.mark.long
@pytest.mark.parametrize("page", ["dead-letters", "queues"])
def test_the_page_does_what_it_says(embedded: Installation, folder: Path, page: str):
    follow(f"operate/{page}", embedded, folder)


@pytest.mark.parametrize("page", [pytest.param("operate/webhooks", marks=pytest.mark.long), "webhooks/setting-up"])
def test_the_page_on_webhooks_does_what_it_says(calls_this_machine: Installation, tmp_path: Path, page: str):
    (tmp_path / ".jobmill").mkdir()
    (tmp_path / ".jobmill" / "api_key").write_text(calls_this_machine.key)
    try:
        follow(page, calls_this_machine, tmp_path, {USUAL_RECEIVER: str(free_port())})
    finally:
        end_listener(tmp_path)


def follow(page: str, server: Installation, folder: Path, instead: dict[str, str] | None = None) -> None:
    """Run a page's examples, with this server's address and other words `instead` of the page's."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    for word, other in {USUAL_ADDRESS: server.address, **(instead or {})}.items():
        text = text.replace(word, other)
    shell = examples(text, "sh")
    on_the_server = environment(PATH=PATH, JOBMILL_DATA_DIR=str(server.folder / "data"))
    assert len(shell) > 5
    for example in shell:
        printed = run_shell(example.text, folder, on_the_server)
        assert told(printed) == told(example.prints or ""), example.text


def end_listener(folder: Path) -> None:
    """End the receiver that a page started, if the page failed before it did."""
    noted = folder / "listener"
    with suppress(ProcessLookupError, FileNotFoundError):
        if noted.exists() and b"listen" in Path(f"/proc/{noted.read_text().strip()}/cmdline").read_bytes():
            os.kill(int(noted.read_text()), signal.SIGTERM)
