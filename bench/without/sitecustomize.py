"""Loaded by every Python whose path has this folder: the product without one thing that its clients do for speed."""

import os
import sys
from functools import partial
from typing import Any

import psycopg
import sqlalchemy


def go_without(what: str) -> None:
    """Take that away for as long as the process lives. Raises LookupError for what is unknown."""
    if what == "prepared statements":
        connect = psycopg.Connection.connect.__func__

        def unprepared(of: type, *args: Any, **kwargs: Any) -> Any:
            return connect(of, *args, **kwargs | {"prepare_threshold": None})

        psycopg.Connection.connect = classmethod(unprepared)
    elif what == "compiled statements":
        sqlalchemy.create_engine = partial(sqlalchemy.create_engine, query_cache_size=0)
    else:
        raise LookupError(what)


try:
    go_without(os.environ["JOBMILL_BENCH_WITHOUT"])
except Exception as error:  # noqa: BLE001 - Python itself would tell of it, and go on with nothing taken away
    sys.exit(f"{type(error).__name__}: {error}")
