"""`.venv-bench/bin/python -m bench.plot`: draws docs/benchmarks/<scenario>.svg from the JSON beside them.

The same JSON gives the same bytes: no date, no random ids, and text that stays text. Grey of a middle tone for words
and lines, and no background, so that they can be read on light and on dark pages.
"""

import json
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.spread import spread
from bench.tables import KEPT

GREY, OURS, THEIRS = "#808080", "#d97706", "#4f86c6"
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "jobmill", "font.family": "sans-serif", "font.size": 10}
NOTHING_OF = ("Date", "Creator", "Format", "Type")
TITLES = {
    "end-to-end": "Jobs a second, from the first enqueue until the last is done",
    "drain": "Jobs a second, from a full queue",
    "enqueue": "Single submissions a second, each durable",
    "latency": "Milliseconds from submit to start at 20 a second, median (less is better)",
    "batch": "Jobs recorded a second, each with its key",
    "under-load": "Milliseconds a submission takes, p95 (less is better)",
    "beside-long": "Milliseconds from submit to start at 20 a second, p99 (less is better)",
    "growth": "Jobs a second, from a full queue of 20,000, on few rows and on many",
    "fan-in": "Jobs a second, from a full queue of 20,000, of one tenant and of many",
    "webhooks": "Jobs a second, from a full queue of 5,000",
}


def main() -> None:
    """Draw every scenario that the JSON holds."""
    with mpl.rc_context(STYLE):
        for kept in KEPT.glob("*.json"):
            for scenario, found in json.loads(kept.read_text())["scenarios"].items():
                figure = drawn(found["compared"][0], TITLES[scenario], found["ways"])
                figure.savefig(KEPT / f"{scenario}.svg", transparent=True, metadata=dict.fromkeys(NOTHING_OF))


def drawn(name: str, title: str, ways: Mapping[str, Any]) -> Figure:
    """A bar a way, or a product, for its median, with the least and the most of its runs as whiskers."""
    figure = Figure(figsize=(7.5, 0.6 + 0.45 * len(ways)), layout="constrained")
    axes = figure.subplots()
    spreads = [spread(each["runs"][name]) for each in ways.values()]
    whiskers = [[one.middle - one.least for one in spreads], [one.most - one.middle for one in spreads]]
    colours = [THEIRS if "jobmill" in ways and way != "jobmill" else OURS for way in ways]
    axes.barh(
        list(ways),
        [one.middle for one in spreads],
        xerr=whiskers,
        color=colours,
        ecolor=GREY,
        capsize=3,
        height=0.6,
        alpha=0.6,
    )
    for place, one in enumerate(spreads):
        told = f"{one.middle:,.0f}" if one.middle >= 100 else f"{one.middle:.1f}"
        axes.annotate(told, (one.most, place), (6, 0), textcoords="offset points", va="center", color=GREY)
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.set_title(title, loc="left", color=GREY, fontsize=10)
    axes.tick_params(colors=GREY)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    return figure


if __name__ == "__main__":
    main()
