"""The methods of an address that to the router is a thing's as well, as `/v1/jobs/batch` is that of a job."""

from flask import Flask, Response, current_app, request

from api.problems import Problem

_NAME = "jobmill-shared-addresses"


def learn(app: Flask) -> None:
    """Find the addresses without parameters that a rule with some fits as well, and the methods that are their own."""
    own: dict[str, set[str]] = {}
    for rule in app.url_map.iter_rules():
        if not rule.arguments:
            own.setdefault(rule.rule, set()).update(rule.methods or ())
    fitting = app.url_map.bind("localhost").allowed_methods
    app.extensions[_NAME] = {address: methods for address, methods in own.items() if {*fitting(address)} - methods}


def other_methods() -> Response | None:
    """Say of such an address which methods it takes, if it is asked, or asked by another."""
    own = current_app.extensions[_NAME].get(request.path)
    if own is None or (request.method in own and request.method != "OPTIONS"):
        return None
    request.url_rule = None
    allow = {"Allow": ", ".join(sorted(own))}
    if request.method == "OPTIONS":
        return Response(headers=allow)
    raise Problem("method-not-allowed", f"This address takes {', '.join(sorted(own - {'OPTIONS'}))}.", headers=allow)
