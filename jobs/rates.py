"""How often a principal may do what: classes of routes, and the policy of each."""

from enum import StrEnum


class RouteClass(StrEnum):
    """Routes that are counted together, since they cost alike."""

    SUBMIT = "submit"
    READ = "read"
    OPERATE = "operate"
    TOKEN = "token"  # noqa: S105 - the name of a class
