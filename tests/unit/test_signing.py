"""What we sign is what receivers verify, by the published vectors and by the library that many of them use."""

import time
from base64 import b64decode, b64encode
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from jobs.signing import NotVerified, headers, key_of, new_secret, signature, verify

# From the tests of the reference libraries, github.com/standard-webhooks/standard-webhooks, all languages alike.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - everybody knows it
MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
# Signatures of theirs that fit nothing, of a version we make and of one we do not.
STRANGE = [
    "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=",
    "v2,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=",
]
OTHER_SECRET = "whsec_" + b64encode(bytes(range(32))).decode()

BODIES = {
    "published": BODY,
    "not ASCII": '{"type":"job.succeeded","data":{"name":"Ærøskøbing, 東京, 🦆, \u2028"}}'.encode(),
    "empty data": b'{"type":"webhook.test","timestamp":"2026-11-28T12:00:00Z","data":{}}',
    "256 KiB": b'{"data":"' + b"x" * (256 * 1024 - 11) + b'"}',
}
each_body = pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)


def published(**changed: str) -> dict[str, str]:
    return {"webhook-id": MESSAGE_ID, "webhook-timestamp": str(TIMESTAMP), "webhook-signature": SIGNATURE} | changed


def test_the_published_vector_is_signed_as_published():
    assert signature([SECRET], MESSAGE_ID, TIMESTAMP, BODY) == SIGNATURE
    assert headers([SECRET], MESSAGE_ID, TIMESTAMP, BODY) == published()


def test_the_published_vector_is_verified():
    verify([SECRET], published(), BODY, TIMESTAMP)


def test_the_published_vector_is_verified_among_other_signatures_and_unknown_versions():
    verify([SECRET], published(**{"webhook-signature": " ".join([*STRANGE, SIGNATURE, STRANGE[0]])}), BODY, TIMESTAMP)


@pytest.mark.parametrize(
    "wrong",
    [
        *STRANGE,
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA=",
        "v1,dawfeoifkpqwoekfpqoekf",
        SIGNATURE[:8],
        "v1,",
        SIGNATURE.removeprefix("v1,"),
        SIGNATURE.replace("v1,", "v2,"),
        SIGNATURE.replace("v1,", "v1a,"),
        SIGNATURE.replace("v1,", "v1,v1,"),
    ],
)
def test_a_signature_that_is_wrong_cut_or_of_another_version_is_refused(wrong: str):
    with pytest.raises(NotVerified, match="No signature"):
        verify([SECRET], published(**{"webhook-signature": wrong}), BODY, TIMESTAMP)


@each_body
def test_the_reference_library_verifies_what_we_sign(body: bytes):
    ours = headers([SECRET], "evt_" + "0" * 32, int(time.time()), body)
    assert Webhook(SECRET).verify(body, ours)
    with pytest.raises(WebhookVerificationError, match="No matching"):
        Webhook(SECRET).verify(body.replace(b"}", b" }"), ours)


@each_body
def test_we_verify_what_the_reference_library_signs(body: bytes):
    theirs = Webhook(SECRET).sign(MESSAGE_ID, datetime.fromtimestamp(TIMESTAMP, UTC), body.decode())
    assert theirs == signature([SECRET], MESSAGE_ID, TIMESTAMP, body)
    verify([SECRET], published(**{"webhook-signature": theirs}), body, TIMESTAMP)


@pytest.mark.parametrize("secret", [SECRET, OTHER_SECRET], ids=["old", "new"])
def test_while_secrets_overlap_each_of_them_verifies(secret: str):
    both = headers([OTHER_SECRET, SECRET], MESSAGE_ID, int(time.time()), BODY)
    assert len(both["webhook-signature"].split()) == 2
    verify([secret], both, BODY, time.time())
    assert Webhook(secret).verify(BODY, both)


def test_a_receiver_that_knows_several_secrets_needs_one_to_fit():
    verify([OTHER_SECRET, SECRET], published(), BODY, TIMESTAMP)


def test_a_secret_that_did_not_sign_verifies_nothing():
    with pytest.raises(NotVerified):
        verify([OTHER_SECRET], published(), BODY, TIMESTAMP)


@pytest.mark.parametrize("off", [-300, -1, 0, 299.9, 300])
def test_a_timestamp_within_five_minutes_either_way_is_taken(off: float):
    verify([SECRET], published(), BODY, TIMESTAMP + off)


@pytest.mark.parametrize(("off", "words"), [(301, "301 seconds ago"), (-301, "301 seconds ahead")])
def test_an_old_timestamp_and_a_future_one_are_refused(off: float, words: str):
    with pytest.raises(NotVerified, match=words):
        verify([SECRET], published(), BODY, TIMESTAMP + off)


def test_a_receiver_chooses_its_own_tolerance():
    verify([SECRET], published(), BODY, TIMESTAMP + 3000, tolerance_seconds=3600)
    with pytest.raises(NotVerified, match="10 seconds ago, and 5 are allowed"):
        verify([SECRET], published(), BODY, TIMESTAMP + 10, tolerance_seconds=5)


@pytest.mark.parametrize(
    ("changed", "body"),
    [
        ({}, BODY + b" "),
        ({}, b""),
        ({"webhook-id": "msg_other"}, BODY),
        ({"webhook-timestamp": str(TIMESTAMP + 1)}, BODY),
    ],
    ids=["longer", "empty", "other id", "other timestamp"],
)
def test_what_was_changed_on_the_way_is_refused(changed: dict[str, str], body: bytes):
    with pytest.raises(NotVerified, match="No signature"):
        verify([SECRET], published(**changed), body, TIMESTAMP)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize(
    ("value", "words"), [(None, "missing"), ("", "missing"), ("é", "not ASCII"), ("\udcff", "not ASCII")]
)
def test_a_missing_or_unreadable_header_is_named(name: str, value: str | None, words: str):
    received = {key: text for key, text in published(**{name: value or ""}).items() if key != name or value is not None}
    with pytest.raises(NotVerified, match=f"{name} is {words}"):
        verify([SECRET], received, BODY, TIMESTAMP)


@pytest.mark.parametrize(
    "timestamp", ["soon", "1614265330.0", " 1614265330", "+1614265330", "1_614_265_330", "-1", "9" * 13]
)
def test_a_timestamp_that_is_not_a_whole_number_is_refused(timestamp: str):
    with pytest.raises(NotVerified, match="whole number"):
        verify([SECRET], published(**{"webhook-timestamp": timestamp}), BODY, TIMESTAMP)


def test_names_of_headers_are_read_in_any_case():
    verify([SECRET], {name.title(): value for name, value in published().items()}, BODY, TIMESTAMP)


def test_a_refusal_tells_no_signature_and_no_secret():
    refusals = []
    for wrong, now in [(SIGNATURE[:-2] + "A=", TIMESTAMP), (SIGNATURE, TIMESTAMP + 301)]:
        with pytest.raises(NotVerified) as refusal:
            verify([SECRET], published(**{"webhook-signature": wrong}), BODY, now)
        refusals.append(f"{refusal.value!r} {refusal.value.__cause__!r} {refusal.value.__context__!r}")
    assert not any(part in text for text in refusals for part in (SIGNATURE[3:20], SECRET[6:]))


def test_a_new_secret_is_unlike_any_other_and_a_key_of_32_bytes():
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(key_of(secret)) for secret in made} == {32}
    assert all(secret.startswith("whsec_") for secret in made)


@pytest.mark.parametrize("length", [24, 64])
def test_a_key_is_read_with_and_without_prefix(length: int):
    encoded = b64encode(bytes(length)).decode()
    assert key_of(encoded) == key_of(f"whsec_{encoded}") == b64decode(encoded)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_" + b64encode(bytes(23)).decode(),
        "whsec_" + b64encode(bytes(65)).decode(),
        "whsec_canary-_canary-_canary-_canary-_",
        "whsec_canary canarycanarycanarycanary==",
        SECRET[:-1],
        "whsec_" + SECRET,
        "canaryé",
    ],
)
def test_what_is_no_secret_is_refused_without_being_told(secret: str):
    with pytest.raises(ValueError, match="A secret") as refusal:
        key_of(secret)
    assert "canary" not in str(refusal.value)


@given(body=st.binary(), timestamp=st.integers(0, 10**12 - 1), key=st.binary(min_size=24, max_size=64))
def test_we_verify_whatever_we_sign(body: bytes, timestamp: int, key: bytes):
    secret = b64encode(key).decode()
    ours = headers([SECRET, secret], MESSAGE_ID, timestamp, body)
    verify([secret], ours, body, timestamp)
    with pytest.raises(NotVerified):
        verify([secret], ours, body + b"\0", timestamp)
