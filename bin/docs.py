"""Writes what docs/ repeats from the code and from the benchmarks: moves, settings, problem codes, metrics, figures.

With `--check` it only compares.

A generated part stands between `<!-- made by bin/docs.py: NAME -->` and `<!-- end -->`; what is around it is written
by hand. docs/openapi.json is made as a whole, and not when that would take something from the API's clients.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, get_args

from annotated_types import Ge, Le
from prometheus_client.metrics import MetricWrapperBase
from pydantic.fields import FieldInfo

from api import metrics as doors
from api.app import describe
from api.kinds import KINDS
from jobs import metrics as meaning
from jobs import registry
from jobs.registry import JobType, Registry
from jobs.scopes import ROLES, Scope
from models import metrics as truth
from models.states import FINAL, MOVES, Move, State
from settings import Settings
from workers import metrics as motion

DOCS = Path(__file__).resolve().parent.parent / "docs"
sys.path.append(str(DOCS.parent))  # benchmarks and tests are no part of what is installed

from bench import tables as benchmarks  # noqa: E402

OPENAPI = DOCS / "openapi.json"
PART = re.compile(r"(?P<begin><!-- made by bin/docs\.py: (?P<name>[a-z-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)

Edge = tuple[str, str, str]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def code(text: object) -> str:
    """Text as code; nothing for nothing."""
    return f"`{text}`" if str(text) else ""


def edges() -> Iterator[Edge]:
    """The moves as (from, to, move). A move that may leave a job where it is does so only from there (cancel)."""
    for move, transition in MOVES.items():
        away: list[str] = [target for target in transition.targets if target not in transition.sources] or ["[*]"]
        for source in transition.sources or ["[*]"]:
            for target in [source] if source in transition.targets else away:
                yield source, target, move


def moves_diagram() -> str:
    """The states and moves in Mermaid; moves between the same two states share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for source, target, move in edges():
        if move != Move.PRUNE:  # four arrows that say little
            arrows.setdefault((source, target), []).append(move)
    lines = [f"    {source} --> {target}: {', '.join(moves)}" for (source, target), moves in arrows.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def moves_table() -> str:
    """What each move does."""
    return table(
        ["move", "from", "to", "made by", "fenced by lease", "also"],
        (
            [
                f"**{move}**",
                _states(transition.sources),
                _states(transition.targets),
                transition.by,
                "yes" if transition.fenced else "no",
                transition.also,
            ]
            for move, transition in MOVES.items()
        ),
    )


def _states(states: tuple[State, ...]) -> str:
    return "any final" if states == FINAL else ", ".join(map(code, states))


def settings_table() -> str:
    """Every setting."""
    return table(
        ["variable", "default", "meaning", "example"],
        (
            [
                code(field.validation_alias),
                _default(field.default),
                " ".join(filter(None, [field.description, _limits(field)])),
                _example(field),
            ]
            for field in Settings.model_fields.values()
        ),
    )


def _default(value: Any) -> str:
    if value is None or value == ():
        return "unset"
    if isinstance(value, bool):
        return code(str(value).lower())
    return code(",".join(value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else value)


def _limits(field: FieldInfo) -> str:
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    least = next((limit.ge for limit in field.metadata if isinstance(limit, Ge)), None)
    most = next((limit.le for limit in field.metadata if isinstance(limit, Le)), None)
    if choices:
        return f"One of {', '.join(map(code, choices))}."
    if least is not None and most is not None:
        return f"From {least} to {most}."
    return "" if least is None else f"At least {least}."


def _example(field: FieldInfo) -> str:
    text = str(field.examples[0]) if field.examples else ""
    return text if " " in text else code(text)


def problems_table() -> str:
    """Every problem code."""
    return table(
        ["code", "status", "title", "what to do"],
        ([code(name), str(kind.status), kind.title, kind.advice] for name, kind in KINDS.items()),
    )


def roles_table() -> str:
    """Which scopes a role holds."""
    return table(
        ["scope", *map(code, ROLES)],
        ([code(scope.value), *("x" if scope in granted else "" for granted in ROLES.values())] for scope in Scope),
    )


def job_types_table() -> str:
    """The shipped job types and their bounds."""
    return table(["type", "attempts", "time limit", "waits between attempts"], map(_job_type, shipped().offered()))


def shipped() -> Registry:
    """The job types that come with Jobmill, without any that whoever runs this has imported besides."""
    only = Registry()
    for known in registry.load(()).offered():
        if known.handler.__module__.startswith("jobs.builtin."):
            only.add(known)
    return only


def _job_type(known: JobType) -> list[str]:
    retry = known.retry.describe()
    waits = f"{retry['first_seconds']:g} s, times {retry['factor']:g} up to {_span(retry['longest_seconds'])}"
    return [
        f"[`{known.name}`](#{known.name.replace('.', '')})",
        f"{known.max_attempts}, at most {known.max_attempts_limit}",
        f"{_span(known.timeout)}, at most {_span(known.timeout_limit)}",
        f"{waits}, give or take {100 * float(str(retry['jitter'])):g} %",
    ]


def _span(duration: Any) -> str:
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def metrics_table() -> str:
    """Every metric of our own. Its text says first what it counts, then what to do when it moves."""
    found = [value for module in (motion, truth, meaning, doors) for value in vars(module).values()]
    known = {id(metric): metric for metric in found if isinstance(metric, MetricWrapperBase)}
    return table(["metric", "labels", "counts", "when it moves"], map(_metric, known.values()))


def _metric(metric: MetricWrapperBase) -> list[str]:
    told = next(iter(metric.describe()))
    name = f"{told.name}_total" if told.type == "counter" else told.name
    labels = metric._labelnames  # noqa: SLF001 - the library tells the labels nowhere else
    counts, _, advice = told.documentation.partition(". ")
    return [code(name), ", ".join(map(code, labels)), counts, advice]


def faults_table() -> str:
    """Every fault that must be survived: how the tests provoke it, and what was measured."""
    from tests.faults.catalogue import FAULTS, claims

    known = claims()
    figures = json.loads((DOCS / "reliability.json").read_text(encoding="utf-8"))
    return table(
        ["fault", "how it is provoked", "measured"],
        (
            row
            for group, faults in FAULTS.items()
            for row in [[f"**{group}**", "", ""], *(_fault(name, faults, known, figures) for name in faults)]
        ),
    )


def _fault(name: str, faults: Any, claims: Any, figures: Any) -> list[str]:
    ways = [
        f"{claim.provoked} ({', '.join(filter(None, [code(claim.test), claim.when]))})"
        for claim in claims
        if claim.fault == name
    ]
    measured = [f"{what}: {value}" for what, value in figures.get(name, {}).items()]
    return [faults[name], "; ".join(ways) or "**not provoked yet**", ", ".join(measured)]


def benchmarks_table(made: Callable[[], benchmarks.Table]) -> str:
    """What a benchmark found."""
    return table(*made())


PARTS: dict[str, Callable[[], str]] = {
    "moves-diagram": moves_diagram,
    "moves-table": moves_table,
    "settings": settings_table,
    "problems": problems_table,
    "roles": roles_table,
    "job-types": job_types_table,
    "metrics": metrics_table,
    "faults": faults_table,
    **{name: partial(benchmarks_table, made) for name, made in benchmarks.parts().items()},
}


def renewed(text: str) -> str:
    """A page with its generated parts made anew."""
    return PART.sub(lambda part: f"{part['begin']}{PARTS[part['name']]()}\n{part['end']}", text)


def openapi() -> str:
    """The API's description as text, for an installation with the shipped job types."""
    return json.dumps(describe(shipped()), ensure_ascii=False, indent=1) + "\n"


def broken() -> list[str]:
    """What the API no longer gives that docs/openapi.json promises."""
    from breaking import breaking

    return breaking(json.loads(before), json.loads(openapi())) if (before := _committed()) else []


def _committed() -> str:
    return OPENAPI.read_text(encoding="utf-8") if OPENAPI.exists() else ""


def main(arguments: list[str]) -> int:
    """Write the generated parts, or with --check tell which pages are stale."""
    pages = {page: page.read_text(encoding="utf-8") for page in sorted(DOCS.rglob("*.md"))}
    made = {page: renewed(before) for page, before in pages.items()}
    if changes := broken():
        print("This breaks clients of docs/openapi.json:", *changes, sep="\n  ", file=sys.stderr)
        print("Mend it; or raise API_VERSION in api/openapi.py, and serve it at another path.", file=sys.stderr)
        return 1
    pages[OPENAPI], made[OPENAPI] = _committed(), openapi()
    stale = {page: text for page, text in made.items() if text != pages[page]}
    for page, text in stale.items():
        if arguments == ["--check"]:
            print(f"{page.relative_to(DOCS.parent)} is not what the code says. Run: make docs", file=sys.stderr)
        else:
            page.write_text(text, encoding="utf-8")
    return 1 if stale and arguments == ["--check"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
