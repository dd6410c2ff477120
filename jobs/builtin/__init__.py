"""The shipped job types; importing this package registers them."""

from jobs.builtin import demo

__all__ = ["demo"]
