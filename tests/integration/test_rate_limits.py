"""Rate limits over HTTP: who is turned away, what every answer tells, and what becomes of it without Redis."""

import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from werkzeug.test import TestResponse

from api.limiter import CountAway, Limiter, LocalLimiter
from api.shared_redis import RedisLimiter
from jobs.rates import Policy, Standing
from jobs.scopes import ROLES
from models.database import Database
from tests.doors import JOBS, KEYS, Caller, Doors, assert_problem
from tests.factories import unique
from tests.oauth import TOKEN, ask, form

THREE = Policy(3, 60)


@pytest.fixture
def doors(shared_sqlite: Database) -> Callable[..., Doors]:
    return lambda limits="read=3/60", **given: Doors(shared_sqlite, rate_limits=limits, **given)


@pytest.fixture
def prefix(redis_url: str) -> Iterator[str]:
    """Of keys in Redis that no other test has, nor another run at the same time; they are deleted afterwards."""
    made = f"jobmilltest_{secrets.token_hex(6)}"
    yield made
    with redis.Redis.from_url(redis_url, socket_timeout=5) as client:
        for key in kept(client, made):
            client.delete(key)


def kept(client: redis.Redis, prefix: str) -> list[bytes]:
    return list(client.scan_iter(f"{prefix}:*", count=10_000))


Make = Callable[..., Doors]


def fields(answer: TestResponse) -> tuple[str, str, int]:
    found = re.fullmatch(r'"(\w+)";r=(\d+);t=(\d+)', answer.headers["RateLimit"])
    assert found, answer.headers["RateLimit"]
    return found[1], answer.headers["RateLimit-Policy"], int(found[2])


def turned_away(answer: TestResponse, route_class: str) -> None:
    problem = assert_problem(answer, 429, "quota-exceeded")
    assert problem["violated-policies"] == [route_class]
    assert 1 <= int(answer.headers["Retry-After"]) <= 120
    assert f'"{route_class}";r=0;' in answer.headers["RateLimit"]


# Who


def test_every_answer_tells_what_is_left_and_the_last_that_there_is_nothing(doors: Make):
    caller = doors().caller()
    told = [fields(caller.get(JOBS)) for _ in range(3)]
    assert told == [("read", '"read";q=3;w=60', left) for left in (2, 1, 0)]
    turned_away(caller.get(JOBS), "read")


def test_errors_count_and_tell_too(doors: Make):
    caller = doors("read=3/60,operate=2/60").caller(scopes=ROLES["viewer"])
    assert fields(caller.get(f"{JOBS}/nothing"))[2] == 2
    assert fields(caller.get(f"{JOBS}?nonsense=1"))[2] == 1
    assert_problem(caller.post(KEYS, {"name": "x", "role": "viewer"}), 403, "forbidden")
    assert fields(caller.post(KEYS, {"name": "x", "role": "viewer"}))[::2] == ("operate", 0)
    turned_away(caller.post(KEYS, {"name": "x", "role": "viewer"}), "operate")


def test_classes_and_principals_are_counted_apart(doors: Make):
    made = doors("read=1/60,submit=2/60")
    one, other = made.caller("limited"), made.caller("limited")
    assert one.get(JOBS).status_code == other.get(JOBS).status_code == 200
    turned_away(one.get(JOBS), "read")
    assert [one.post(JOBS, {"type": "test.echo"}).status_code for _ in range(3)] == [202, 202, 429]
    assert made.caller().get(JOBS).status_code == 200


def test_a_key_and_its_tokens_are_one_principal(doors: Make):
    made = doors("read=2/60,token=2/60")
    caller = made.caller()
    answers = [ask(made, form(caller)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    turned_away(answers[2], "token")
    assert fields(answers[0])[::2] == ("token", 1)
    holder = Caller(made, answers[0].json["access_token"])
    assert [caller.get(JOBS).status_code, holder.get(JOBS).status_code] == [200, 200]
    turned_away(holder.get(JOBS), "read")


def test_what_is_turned_away_did_nothing(doors: Make):
    made = doors("submit=1/60")
    caller = made.caller()
    caller.submit()
    before = made.count_jobs()
    turned_away(caller.post(JOBS, {"type": "test.echo"}), "submit")
    assert made.count_jobs() == before


def test_without_a_limit_nothing_is_told(doors: Make):
    answer = doors("read=none").caller().get(JOBS)
    assert not {"RateLimit", "RateLimit-Policy"} & set(answer.headers.keys())


def test_doors_without_a_key_are_not_limited(doors: Make):
    nobody = Caller(doors(), None)
    assert {nobody.get("/healthz").status_code for _ in range(10)} == {200}


# Limits of a key


def test_a_key_has_limits_of_its_own(doors: Make):
    made = doors("read=100/60")
    key = made.caller().post(KEYS, {"name": "x", "role": "viewer", "rate_limits": {"read": "2/60"}}).json
    assert key["rate_limits"] == {"read": "2/60"}
    caller = Caller(made, key["token"])
    assert fields(caller.get(JOBS))[1] == '"read";q=2;w=60'
    assert [caller.get(JOBS).status_code for _ in range(2)] == [200, 429]


def test_a_key_gives_no_looser_limits_than_it_has_and_hands_its_own_on(doors: Make):
    made = doors("read=100/60")
    admin = made.caller()
    for limit in ("101/60", "100/30", "none"):
        asked = {"name": "x", "role": "admin", "rate_limits": {"read": limit}}
        assert "read" in assert_problem(admin.post(KEYS, asked), 403, "forbidden")["detail"]
    tight = admin.post(KEYS, {"name": "x", "role": "admin", "rate_limits": {"read": "50/60"}}).json
    child = Caller(made, tight["token"]).post(KEYS, {"name": "y", "role": "admin", "rate_limits": {"submit": "5/60"}})
    assert child.json["rate_limits"] == {"read": "50/60", "submit": "5/60"}


def test_the_platform_sets_what_limits_it_likes(doors: Make):
    made, tenant = doors("read=1/60"), unique("tenant")
    made.caller(tenant)
    asked = {"name": "x", "role": "viewer", "tenant": tenant, "rate_limits": {"read": "none", "submit": "999999/1"}}
    key = made.caller(tenant=None).post(KEYS, asked).json
    assert {Caller(made, key["token"]).get(JOBS).status_code for _ in range(5)} == {200}


@pytest.mark.parametrize("limits", [{"read": "fast"}, {"fly": "1/1"}, {"guess": "1/1"}, {"read": "0/60"}, {"read": 5}])
def test_limits_that_are_none_are_told(doors: Make, limits: Any):
    answer = doors().caller().post(KEYS, {"name": "x", "role": "viewer", "rate_limits": limits})
    assert_problem(answer, 400, "invalid-request")


# Guessing


def wrong(caller: Caller) -> Caller:
    token = caller.token or ""
    return Caller(caller.doors, token[:-1] + ("a" if token[-1] != "a" else "b"))


def test_guessing_at_a_key_ends_in_429_and_then_not_even_the_right_secret_is_tried(doors: Make):
    made = doors("guess=5/60")
    caller = made.caller()
    codes = [wrong(caller).get(JOBS).status_code for _ in range(7)]
    assert codes == [401] * 5 + [429] * 2
    turned_away(caller.get(JOBS), "guess")


def test_others_at_the_guesser_s_address_come_in(doors: Make):
    made = doors("guess=5/60")
    guessed, good = made.caller(), made.caller()
    for _ in range(10):
        wrong(guessed).get(JOBS)
    assert good.get(JOBS).status_code == 200
    assert Caller(made, ask(made, form(good)).json["access_token"]).get(JOBS).status_code == 200


def test_guesses_of_every_kind_count_for_their_address(doors: Make):
    made = doors("guess=6/60")
    caller = made.caller()
    for number in range(2):
        assert_problem(Caller(made, f"jm_nobody{number}_{'x' * 43}").get(JOBS), 401, "unauthenticated")
        assert_problem(Caller(made, "eyJ.eyJ.sig").get(JOBS), 401, "unauthenticated")
        assert ask(made, form(caller, client_secret="x" * 43)).status_code == 401
    turned_away(Caller(made, "a.b.c").get(JOBS), "guess")
    turned_away(ask(made, form(caller, client_id="nobody")), "guess")


def test_asking_without_credentials_is_no_guess(doors: Make):
    nobody = Caller(doors("guess=1/60"), None)
    assert {nobody.get(JOBS).status_code for _ in range(5)} == {401}


def test_a_guesser_cannot_pass_for_many_by_a_header_unless_a_trusted_proxy_says_so(doors: Make):
    for proxies, codes in (("", [401, 429, 429]), ("127.0.0.1/32", [401, 401, 401])):
        made = doors("guess=1/60", trusted_proxies=proxies)
        asked = [Caller(made, "a.b.c").get(JOBS, X_Forwarded_For=f"203.0.113.{n}").status_code for n in range(3)]
        assert asked == codes


def test_the_token_door_counts_guesses_like_the_others(doors: Make):
    made = doors("guess=3/60")
    caller = made.caller()
    codes = [ask(made, form(caller, client_secret="x" * 43)).status_code for _ in range(5)]
    assert codes == [401, 401, 401, 429, 429]
    assert TOKEN
    turned_away(ask(made, form(caller)), "guess")


def from_where(caller: Caller, address: str) -> int:
    return caller.request("GET", JOBS, environ_overrides={"REMOTE_ADDR": address}).status_code


def test_strangers_push_nobody_s_counts_out(doors: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("api.limiter.MOST_KEPT", 20)
    made = doors("read=3/60")
    caller = made.caller()
    assert [caller.get(JOBS).status_code for _ in range(4)] == [200, 200, 200, 429]
    for number in range(100):
        assert from_where(Caller(made, f"jm_nobody{number}_{'x' * 43}"), f"203.0.113.{number}") == 401
    turned_away(caller.get(JOBS), "read")


def test_made_up_key_ids_leave_one_count_for_their_address(doors: Make, redis_url: str, prefix: str):
    made = doors("guess=5/60", redis_url=redis_url, queue_prefix=prefix)
    for number in range(20):
        Caller(made, f"jm_nobody{number}_{'x' * 43}").get(JOBS)
    with redis.Redis.from_url(redis_url, socket_timeout=5) as client:
        assert len(kept(client, prefix)) == 1


def test_the_addresses_of_one_network_are_one_guesser(doors: Make):
    nobody = Caller(doors("guess=2/60"), "a.b.c")
    asked = [from_where(nobody, f"2001:db8:0:7::{number}") for number in range(3)]
    assert asked == [401, 401, 429]
    assert from_where(nobody, "2001:db8:0:8::1") == 401


def test_who_is_stopped_is_not_let_go_because_others_are_stopped_too(doors: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("api.rate_limits.MOST_BLOCKED", 3)
    made = doors("guess=1/60")
    callers = [made.caller() for _ in range(5)]
    for caller in callers:
        for _ in range(2):
            wrong(caller).get(JOBS)
    assert len(made.services.blocked) == 3
    assert [caller.get(JOBS).status_code for caller in callers] == [200, 200, 429, 429, 429]


def test_an_unknown_key_and_a_wrong_secret_are_compared_alike(doors: Make, monkeypatch: pytest.MonkeyPatch):
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return False

    made = doors("guess=none")
    caller = made.caller()
    monkeypatch.setattr("jobs.api_keys.hmac.compare_digest", compare)
    for key in (wrong(caller).token, f"jm_nobody_{'x' * 43}"):
        assert_problem(Caller(made, key).get(JOBS), 401, "unauthenticated")
    assert compared == [(32, 32), (32, 32)]


# A batch counts as its jobs


def test_a_batch_counts_as_its_jobs(doors: Make):
    made = doors("submit=5/60")
    caller = made.caller()
    batch = {"jobs": [{"type": "test.echo"}] * 3}
    assert fields(caller.post(f"{JOBS}/batch", batch))[::2] == ("submit", 2)
    before = made.count_jobs()
    assert_problem(caller.post(f"{JOBS}/batch", batch), 429, "quota-exceeded")
    assert made.count_jobs() == before
    assert caller.post(JOBS, {"type": "test.echo"}).status_code == 202
    turned_away(caller.post(JOBS, {"type": "test.echo"}), "submit")


def test_a_batch_of_more_than_the_quota_never_comes_in_and_is_told_so(doors: Make):
    made = doors("submit=5/60")
    caller = made.caller()
    before = made.count_jobs()
    problem = assert_problem(
        caller.post(f"{JOBS}/batch", {"jobs": [{"type": "test.echo"}] * 6}), 400, "invalid-request"
    )
    assert [(flaw["pointer"], flaw["code"]) for flaw in problem["errors"]] == [("/jobs", "more-than-quota")]
    assert made.count_jobs() == before


# Where it is counted


@pytest.fixture
def shared(redis_url: str, prefix: str) -> Callable[[], RedisLimiter]:
    return lambda: RedisLimiter(redis_url, prefix)


def test_processes_count_together_in_redis(doors: Make, redis_url: str, prefix: str):
    given = {"redis_url": redis_url, "queue_prefix": prefix}
    one, other = doors("read=4/60", **given), doors("read=4/60", **given)
    caller = one.caller()
    asked = [Caller(made, caller.token).get(JOBS).status_code for made in (one, other) * 3]
    assert asked == [200] * 4 + [429] * 2


def test_redis_counts_as_one_process_does(shared: Callable[[], RedisLimiter]):
    in_redis, here = shared(), LocalLimiter()
    policy = Policy(5, 100_000)
    told = [(in_redis.take("x", policy), here.take("x", policy)) for _ in range(8)]
    for one, other in told:
        assert (one.taken, one.left) == (other.taken, other.left)
        assert abs(one.retry_in - other.retry_in) <= 2
    assert [one.taken for one, _ in told] == [True] * 5 + [False] * 3


def test_a_request_is_one_call_to_redis(redis_url: str, shared: Callable[[], RedisLimiter]):
    limiter, client = shared(), redis.Redis.from_url(redis_url, socket_timeout=5)
    limiter.take("x", THREE)
    with client.monitor() as monitor:
        limiter.take("y", THREE)
        client.ping()
        seen = []
        for told in monitor.listen():
            seen.append(told)
            if told["command"] == "PING":
                break
    ours = [one for one in seen if one["client_type"] != "lua" and one["command"].startswith("EVALSHA")]
    others = [one for one in seen if one["client_type"] != "lua" and one["client_port"] == ours[0]["client_port"]]
    assert len(ours) == len(others) == 1
    client.close()


def test_two_windows_later_redis_has_forgotten(redis_url: str, prefix: str):
    RedisLimiter(redis_url, prefix).take("x", Policy(3, 2))
    client = redis.Redis.from_url(redis_url, socket_timeout=5)
    assert 0 < client.ttl(f"{prefix}:rate:x") <= 4
    client.close()


def test_no_more_pass_than_the_quota_however_many_ask_at_once(shared: Callable[[], RedisLimiter]):
    policy = Policy(50, 100_000)
    for limiter in (shared(), LocalLimiter()):
        with ThreadPoolExecutor(8) as threads:
            told: list[Standing] = list(threads.map(lambda _, it=limiter: it.take("x", policy), range(200)))
        assert sum(one.taken for one in told) == 50


@pytest.fixture
def frozen() -> Iterator[str]:
    """The address of a Redis that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


def test_a_redis_that_is_frozen_or_away_refuses_nobody_and_costs_little(doors: Make, frozen: str):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
    for url in (frozen, closed):
        caller = doors("read=20/60", redis_url=url).caller()
        began = time.monotonic()
        told = [fields(caller.get(JOBS))[2] for _ in range(20)]
        assert time.monotonic() - began < 3
        assert told == list(reversed(range(20)))
        turned_away(caller.get(JOBS), "read")


class Flaky:
    """A shared limiter that fails when it is told to."""

    def __init__(self) -> None:
        self.fails, self.asked, self.inner = True, 0, LocalLimiter()

    def take(self, who: str, policy: Policy, many: int = 1) -> Standing:
        self.asked += 1
        if self.fails:
            raise CountAway("frozen")
        return self.inner.take(who, policy, many)


def test_a_redis_that_failed_is_left_alone_for_five_seconds_and_asked_by_one_request_then():
    now, flaky = 100.0, Flaky()
    limiter = Limiter(flaky, LocalLimiter(), lambda: now)  # type: ignore[arg-type]
    for _ in range(10):
        limiter.take("x", THREE)
    assert flaky.asked == 1
    now += 5
    for _ in range(10):
        limiter.take("x", THREE)
    assert flaky.asked == 2
    now += 5
    flaky.fails = False
    for _ in range(3):
        limiter.take("x", THREE)
    assert flaky.asked == 5


def test_made_up_identities_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("api.limiter.MOST_KEPT", 100)
    limiter = LocalLimiter(lambda: 1000.0)
    for number in range(1000):
        limiter.take(f"who {number}", THREE)
    assert len(limiter._used) <= 100
