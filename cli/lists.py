"""Printing a list of the API, one page or all of them."""

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from cli import output
from jobmill_client.connection import Connection

Item = Mapping[str, Any]


def show_list(
    server: Connection,
    path: str,
    params: Mapping[str, Any],
    table: output.Table,
    row: Callable[[Item], output.Row],
    *,
    everything: bool,
    as_json: bool,
) -> int:
    """Print a page, or every page, as a table or as the documents that came; gives how many items."""
    more, shown = None, 0
    for page in islice(server.pages(path, params), None if everything else 1):
        more = page.document.get("next_cursor")
        shown += len(page.document.get("data", ()))
        if as_json:
            output.document(page.body)
        else:
            table.show(row(item) for item in page.document.get("data", ()))
    if more and not as_json:
        output.note("There are more; --all shows every one.")
    return shown
