from pathlib import Path

import pytest

from cli.access import access
from cli.connecting import connected
from cli.failures import Failure

KEY = "jm_abc_" + "s" * 43
LOCAL = "http://127.0.0.1:8000"


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOBMILL_API_KEY", raising=False)
    monkeypatch.delenv("JOBMILL_DATA_DIR", raising=False)


def keep(directory: Path, text: str = KEY + "\n") -> None:
    directory.mkdir()
    (directory / "api_key").write_text(text)


def test_the_environments_key_goes_before_the_file(monkeypatch):
    keep(Path(".jobmill"))
    assert access(LOCAL).token == KEY
    monkeypatch.setenv("JOBMILL_API_KEY", "jm_env_" + "e" * 43)
    assert access(LOCAL).token == "jm_env_" + "e" * 43


def test_the_file_is_looked_for_in_the_data_directory(monkeypatch, tmp_path):
    keep(tmp_path / "elsewhere")
    monkeypatch.setenv("JOBMILL_DATA_DIR", str(tmp_path / "elsewhere"))
    assert access("http://localhost:8000/").url == "http://localhost:8000"
    assert access("http://[::1]:8000").token == KEY


def test_a_local_servers_key_is_not_sent_to_another_machine():
    keep(Path(".jobmill"))
    with pytest.raises(Failure, match="set JOBMILL_API_KEY"):
        access("https://jobs.example.com")


def test_a_missing_key_says_what_to_do():
    with pytest.raises(Failure, match=r"JOBMILL_API_KEY is not set and .*api_key cannot be read"):
        access(LOCAL)


@pytest.mark.parametrize("bad", ["jm_abc_ü", "jm_abc\nX-Evil: 1", "two words"])
def test_a_key_of_a_wrong_form_is_refused_and_not_repeated(monkeypatch, bad):
    monkeypatch.setenv("JOBMILL_API_KEY", bad)
    with pytest.raises(Failure) as failure:
        access(LOCAL)
    assert bad not in failure.value.message


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "ftp://x", "http://", "http://x:port", "http://x:99999", "http://x?a=b", "http://[::1"],
)
def test_an_address_of_a_wrong_form_is_refused(url):
    with pytest.raises(Failure, match="a right one"):
        access(url)


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(Failure) as failure:
        access("http://user:hunter2@host")
    assert "hunter2" not in failure.value.message


def test_the_key_is_in_no_repr(monkeypatch):
    monkeypatch.setenv("JOBMILL_API_KEY", KEY)
    assert KEY not in repr(access(LOCAL))
    with connected(LOCAL) as server:
        assert KEY not in repr(vars(server))
        assert KEY not in repr(server._http.headers)
