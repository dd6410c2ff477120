"""The documentation says what the code says: generated parts, links, names of settings, routes, moves, events."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from api.app import create_app
from api.services import Services
from cli.failures import Exit
from jobs import registry
from models.states import Move
from settings import Settings
from tests.doors import settings

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "client" / "README.md", *DOCS]

# Read by commands, tests and the loading of settings itself, so no settings of a process.
OTHER_VARIABLES = {
    "JOBMILL_URL",
    "JOBMILL_API_KEY",
    "JOBMILL_SECRETS_DIR",
    "JOBMILL_MODEL_EXAMPLES",
    "JOBMILL_WEBHOOK_SECRET",
} | {f"JOBMILL_TEST_{service}_URL" for service in ("DATABASE", "RABBITMQ", "REDIS")}
VARIABLES = {str(field.validation_alias) for field in Settings.model_fields.values()} | OTHER_VARIABLES
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def text(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generator", ROOT / "bin" / "docs.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def section(page: str, title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {title}"
    return found[1]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made where Markdown is shown."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_generated_parts_are_what_the_code_says(page: Path, generator: Any):
    assert generator.renewed(page.read_text(encoding="utf-8")) == page.read_text(encoding="utf-8"), "run: make docs"


def test_every_generated_part_stands_somewhere_once(generator: Any):
    placed = [part["name"] for page in DOCS for part in generator.PART.finditer(page.read_text(encoding="utf-8"))]
    assert sorted(placed) == sorted(generator.PARTS)


@each_page
def test_every_relative_link_leads_somewhere(page: Path):
    prose = CODE.sub("", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


@each_page
def test_every_variable_that_is_named_exists(page: Path):
    for name in re.findall(r"\bJOBMILL_[A-Z_]+", page.read_text(encoding="utf-8")):
        whole_family = name.endswith("_") and any(known.startswith(name) for known in VARIABLES)
        assert whole_family or name in VARIABLES, f"{name} is no setting"


PARAMETER, PLACE = re.compile(r"<(?:[^:>]+:)?([^>]+)>"), r"{\1}"


def test_the_api_page_lists_exactly_the_routes_that_exist():
    nothing: Any = None
    app = create_app(Services(settings(), nothing, nothing, nothing, version="0"))
    served = {
        f"{method} {PARAMETER.sub(PLACE, rule.rule)}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert set(re.findall(r"^\| `([A-Z]+ /\S+)` \|", text("api.md"), re.MULTILINE)) == served


def test_every_move_is_explained_in_order():
    told = re.findall(r"^- \*\*(\w+)\*\* ", section(text("states.md"), "In words"), re.MULTILINE)
    assert told == [move.value for move in Move]


def test_every_exit_code_is_told():
    told = re.findall(r"^\| (\d+) \|", section(text("cli.md"), "Exit codes"), re.MULTILINE)
    assert [int(code) for code in told] == sorted(Exit)


def test_every_log_event_that_is_told_is_written_somewhere():
    source = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("api", "cli", "workers")
        for path in (ROOT / folder).rglob("*.py")
    )
    for row in re.findall(r"^\| (`.+?) \|", section(text("operate.md"), "Logs"), re.MULTILINE):
        for event in re.findall(r"`(\w+)`", row):
            assert f'"{event}"' in source, f"nothing logs {event}"


def test_every_metric_that_is_named_exists(generator: Any):
    known = set(re.findall(r"`(jobmill_\w+)`", generator.metrics_table()))
    named = {name for page in PAGES for name in re.findall(r"\bjobmill_\w+", page.read_text(encoding="utf-8"))}
    assert named - {"jobmill_test", "jobmill_client"} <= known


def test_every_shipped_job_type_and_each_of_its_arguments_is_told():
    page = text("job-types.md")
    for known in registry.load(()).offered():
        if known.handler.__module__.startswith("jobs.builtin."):
            told = section(page, known.name)
            for argument in known.args_schema["properties"]:
                assert re.search(rf'[`"]{argument}[`"]', told), f"{known.name}: {argument}"
