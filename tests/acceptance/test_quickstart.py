"""The quickstart and the client's README, run as a new user runs them against an embedded Jobmill."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.documents import examples, run_python, run_shell, told
from tests.acceptance.installation import Installation
from tests.acceptance.installer import Installer
from tests.acceptance.process import environment

ROOT = Path(__file__).parents[2]
QUICKSTART = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
CLIENT = (ROOT / "client" / "README.md").read_text(encoding="utf-8")
USUAL_ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def embedded(request: pytest.FixtureRequest) -> Iterator[Installation]:
    with ExitStack() as stack:
        yield Installer(request, stack, from_nothing=True)("embedded")


@pytest.fixture
def folder(embedded: Installation, tmp_path: Path) -> Path:
    """What the clone holds of a server that was started there: its key."""
    (tmp_path / ".jobmill").mkdir()
    (tmp_path / ".jobmill" / "api_key").write_text(embedded.key + "\n")
    return tmp_path


def opened(embedded: Installation) -> dict[str, str]:
    """The environment of somebody who has set address and key."""
    return environment(JOBMILL_URL=embedded.address, JOBMILL_API_KEY=embedded.key)


def test_the_quickstart_does_what_it_says_with_curl_and_then_from_python(embedded: Installation, folder: Path):
    shell = examples(QUICKSTART, "sh")
    assert len(shell) > 5
    for example in shell:
        block = example.text.replace(USUAL_ADDRESS, embedded.address)
        printed = run_shell(block, folder, environment())
        assert told(printed) == told(example.prints or ""), example.text
    follow(QUICKSTART, folder, embedded)


def test_the_clients_readme_does_what_it_says(embedded: Installation, folder: Path):
    follow(CLIENT, folder, embedded)


def follow(page: str, folder: Path, embedded: Installation) -> None:
    """Run a page's Python, and see that each block prints what the page says."""
    python = examples(page, "python")
    assert len(python) > 3
    printed = run_python([example.text for example in python], folder, opened(embedded))
    for example, said in zip(python, printed, strict=True):
        assert told(said) == told(example.prints or ""), example.text


@pytest.mark.parametrize("block", ["false", "cat nothing | cat", "echo $nothing"], ids=["fails", "pipe", "unset"])
def test_an_example_of_a_shell_that_fails_is_noticed(block: str, tmp_path: Path):
    with pytest.raises(AssertionError, match="fails"):
        run_shell(block, tmp_path, environment())


def test_an_example_of_python_that_fails_is_noticed(tmp_path: Path):
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run_python(["x = 0", "1 / x"], tmp_path, environment())


def test_a_session_goes_on_from_block_to_block(tmp_path: Path):
    run_shell("GREETING='good  morning'; greet() { echo \"$GREETING\"; }; export NAME=Ada", tmp_path, environment())
    assert run_shell('greet; bash -c "echo \\$NAME"', tmp_path, environment()) == "good  morning\nAda\n"


def test_what_a_block_prints_is_the_text_right_after_it():
    page = "```sh\na\n```\n\n```text\n1\n```\n\n```sh\nb\n```\nwords\n```text\n2\n```\n"
    assert [(example.text, example.prints) for example in examples(page, "sh")] == [("a\n", "1\n"), ("b\n", None)]
