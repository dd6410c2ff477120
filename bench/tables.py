"""The tables of docs/benchmarks.md, from the JSON that benchmarks in rounds keep."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.spread import Spread, ratios, spread

KEPT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"
PEERS = "peers"
NAMES = {
    "jobmill": "Jobmill",
    "dramatiq": "Dramatiq",
    "celery-postgresql": "Celery, PostgreSQL",
    "celery-redis": "Celery, Redis",
    "procrastinate": "Procrastinate",
}

Rows = list[list[str]]
Table = tuple[Sequence[str], Rows]
"""Its heads and its rows."""
Ways = Mapping[str, Any]
"""By its name each way's runs, by the name of the figure."""


def parts() -> dict[str, Callable[[], Table]]:
    """By the name of the part of a page."""
    documents = {kept.stem: json.loads(kept.read_text(encoding="utf-8")) for kept in KEPT.glob("*.json")}
    found: dict[str, Callable[[], Table]] = {}
    for name, document in documents.items():
        if name == PEERS:
            found["figures-peers"] = partial(_peers, document["scenarios"])
            found["figures-against-peers"] = partial(_against_peers, document["scenarios"])
        else:
            found[f"figures-{name}"] = partial(_scenario, **document["scenarios"][name])
    return found


def _scenario(compared: Sequence[str], ways: Ways) -> Table:
    """A way's figures, and its ratio to the first way's in the first figure that is compared."""
    first = next(iter(ways))
    figures = list(dict.fromkeys(figure for way in ways.values() for figure in way["runs"]))
    rows = []
    for name, way in ways.items():
        cells = [_told(spread(way["runs"][figure])) if figure in way["runs"] else "" for figure in figures]
        ratio = ratios(way["runs"][compared[0]], ways[first]["runs"][compared[0]])
        rows.append([name, *cells, "" if name == first else _ratio(ratio)])
    return ["", *figures, f"{compared[0]}, to {first}"], rows


def _peers(scenarios: Mapping[str, Any]) -> Table:
    columns = [(scenario, figure) for scenario, found in scenarios.items() for figure in found["compared"]]
    rows = [
        [NAMES.get(subject, subject)]
        + [_told(spread(scenarios[scenario]["ways"][subject]["runs"][figure])) for scenario, figure in columns]
        for subject in scenarios["drain"]["ways"]
    ]
    return ["", *(f"`{scenario}`, {figure}" for scenario, figure in columns)], rows


def _against_peers(scenarios: Mapping[str, Any]) -> Table:
    """How many times a peer's rate Jobmill's is, and how much longer it takes from submit to start."""
    rows = []
    for peer in list(scenarios["drain"]["ways"])[1:]:
        runs = {
            name: (found["ways"]["jobmill"]["runs"], found["ways"][peer]["runs"]) for name, found in scenarios.items()
        }
        ours, theirs = runs.pop("latency")
        rates = [ratios(one["jobs per second"], other["jobs per second"]) for one, other in runs.values()]
        later = spread([one - other for one, other in zip(ours["p50 ms"], theirs["p50 ms"], strict=True)])
        rows.append([NAMES.get(peer, peer), *map(_ratio, rates), _told(later)])
    names = [f"`{name}`, times" for name in scenarios if name != "latency"]
    return ["Jobmill against", *names, "`latency`, p50, ms more"], rows


def _told(found: Spread) -> str:
    digits = 0 if found.middle >= 100 else 1
    middle, least, most = (f"{value:,.{digits}f}" for value in found)
    return f"{middle} ({least} to {most})"


def _ratio(found: Spread) -> str:
    digits = 1 if found.middle >= 10 else 2
    middle, least, most = (f"{value:.{digits}f}" for value in found)
    return f"{middle} ({least} to {most})"
