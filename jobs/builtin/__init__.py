"""The shipped job types; importing this package registers them."""

from jobs.builtin import csv_profile, demo, http_request, redrive, webhook

__all__ = ["csv_profile", "demo", "http_request", "redrive", "webhook"]
