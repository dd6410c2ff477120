"""Loaded by every Python whose path has this folder: the product without one thing that its clients do for speed."""

import os
from functools import partial
from typing import Any

import psycopg
import sqlalchemy

_without = os.environ["JOBMILL_BENCH_WITHOUT"]
if _without == "prepared statements":
    _connect = psycopg.Connection.connect.__func__

    def _unprepared(of: type, *args: Any, **kwargs: Any) -> Any:
        return _connect(of, *args, **kwargs | {"prepare_threshold": None})

    psycopg.Connection.connect = classmethod(_unprepared)
elif _without == "compiled statements":
    sqlalchemy.create_engine = partial(sqlalchemy.create_engine, query_cache_size=0)
else:
    raise LookupError(_without)
