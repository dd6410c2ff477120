from uuid import UUID

import orjson
import pytest

from models.ids import new_id
from models.job import Ref
from workers.messages import ACTOR, MOST_REFS, BadMessage, decode, dramatiq_message, encode

ID = "0190163d8694739b8d3e1c5a2b7f4e60"
DASHED = "0190163d-8694-739b-8d3e-1c5a2b7f4e60"


def run(*items: object) -> bytes:
    return orjson.dumps({"run": items})


@pytest.mark.parametrize("how_many", [1, 2, MOST_REFS])
def test_what_is_encoded_is_decoded(how_many):
    refs = [Ref(new_id(), lease) for lease in range(1, how_many + 1)]
    assert decode(encode(refs)) == refs


def test_the_largest_lease_and_both_spellings_of_an_id_are_understood():
    assert decode(run([DASHED, 2**63 - 1], [ID, 1])) == [Ref(UUID(ID), 2**63 - 1), Ref(UUID(ID), 1)]


MALFORMED = {
    "empty": b"",
    "blank": b"   ",
    "no JSON": b"run",
    "half a document": b'{"run": [["',
    "two documents": run([ID, 1]) + run([ID, 1]),
    "not UTF-8": b'{"run": [["\xff\xfe", 1]]}',
    "UTF-16": '{"run": []}'.encode("utf-16"),
    "null": b"null",
    "a number": b"1",
    "a text": b'"run"',
    "a list": b'[["run"]]',
    "NaN": b'{"run": [["%s", NaN]]}' % ID.encode(),
    "nothing in it": b"{}",
    "another member only": b'{"start": [["%s", 1]]}' % ID.encode(),
    "an extra member": orjson.dumps({"run": [[ID, 1]], "options": {}}),
    "options null": orjson.dumps({"run": [[ID, 1]], "options": None}),
    "Dramatiq's own message": orjson.dumps(
        {
            "queue_name": "default",
            "actor_name": "run",
            "args": [[[ID, 1]]],
            "kwargs": {},
            "options": None,
            "message_id": DASHED,
            "message_timestamp": 1,
        }
    ),
    "run is null": b'{"run": null}',
    "run is a text": orjson.dumps({"run": ID}),
    "run is an object": orjson.dumps({"run": {ID: 1}}),
    "no jobs": b'{"run": []}',
    "too many jobs": run(*[[ID, 1]] * (MOST_REFS + 1)),
    "huge": run([ID + " " * 70_000, 1]),
    "nested deeply": b'{"run": ' + b"[" * 2000 + b"]" * 2000 + b"}",
    "a job is null": run(None),
    "a job is a text": run(ID),
    "a job is an object": run({"id": ID, "lease": 1}),
    "a job without its lease": run([ID]),
    "a job with more": run([ID, 1, 1]),
    "an id that is null": run([None, 1]),
    "an id that is a number": run([7, 1]),
    "an id that is none": run(["not-an-id", 1]),
    "an id one digit short": run([ID[1:], 1]),
    "a lease that is a text": run([ID, "1"]),
    "a lease that is null": run([ID, None]),
    "a lease that is a fraction": run([ID, 1.5]),
    "a lease with a point": run([ID, 1.0]),
    "a lease that is a list": run([ID, [1]]),
    "lease true": run([ID, True]),
    "lease false": run([ID, False]),
    "lease zero": run([ID, 0]),
    "a negative lease": run([ID, -1]),
    "a lease that no column holds": b'{"run": [["%s", 9223372036854775808]]}' % ID.encode(),
    "a lease beyond all integers": b'{"run": [["%s", 123456789012345678901234567890]]}' % ID.encode(),
    "one right and one wrong": run([ID, 1], [ID, True]),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_encode_cannot_have_made_is_no_message(body):
    with pytest.raises(BadMessage) as raised:
        decode(body)
    assert 0 < len(str(raised.value)) <= 300


def test_the_message_for_dramatiq_asks_for_nothing_that_dramatiq_would_do_by_itself():
    refs = [Ref(new_id(), 1)]
    message = dramatiq_message("jobmill.default", refs)
    assert (message.queue_name, message.actor_name, message.args) == ("jobmill.default", ACTOR, (refs,))
    assert (message.options, message.kwargs) == ({}, {})
