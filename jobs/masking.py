"""Secrets of known forms in what an exception says: passwords in URLs, tokens, credentials of a header.

A message and a trace are shown to operators and kept for months. A secret of any other form passes: what an exception
says is its author's to choose.
"""

import re

MASK = "***"

_FORMS = (
    (re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)"), rf"\g<1>{MASK}"),
    (re.compile(r"\b(jm_[A-Za-z0-9]{1,32}_|whsec_)[A-Za-z0-9+/=_-]{8,}"), rf"\g<1>{MASK}"),
    (re.compile(r"\b(Bearer|Basic)(\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\g<1>\g<2>{MASK}"),
)


def masked(text: str) -> str:
    """The text with each such secret replaced by `***`."""
    for form, instead in _FORMS:
        text = form.sub(instead, text)
    return text
