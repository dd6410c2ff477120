"""Redis, as the API asks it. Imported where there is one: its client takes 6 MB of each process."""

import redis
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from api.limiter import CountAway
from jobs.rates import Policy, Standing, Used, standing

TIMEOUT_SECONDS = 0.1

# As `jobs.rates.take`, and by Redis's clock, which is the same for all processes.
_TAKE = """
local quota, seconds, many = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local at = tonumber(time[1]) + tonumber(time[2]) / 1000000
local window = math.floor(at / seconds)
local kept = redis.call('HMGET', KEYS[1], 'window', 'now', 'before')
local now, before = tonumber(kept[2]) or 0, tonumber(kept[3]) or 0
if tonumber(kept[1]) ~= window then
  if tonumber(kept[1]) == window - 1 then before = now else before = 0 end
  now = 0
end
local taken = 0
if before * (1 - (at / seconds - window)) + now + many <= quota then
  now, taken = now + many, 1
  redis.call('HSET', KEYS[1], 'window', window, 'now', now, 'before', before)
  redis.call('EXPIRE', KEYS[1], 2 * seconds)
end
return {taken, window, now, before, tostring(at)}
"""


class RedisLimiter:
    """Counts in Redis, by one call a request."""

    def __init__(self, url: str, prefix: str) -> None:
        # Its defaults would wait for a frozen server for ever, and try ten times.
        client = redis.Redis.from_url(
            url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            maint_notifications_config=MaintNotificationsConfig(enabled=False),  # of a managed Redis, at a call more
        )
        self._prefix = prefix
        self._script = client.register_script(_TAKE)

    def take(self, who: str, policy: Policy, many: int = 1) -> Standing:
        """So many requests more of `who`, if the policy has room for them all. Raises CountAway."""
        try:
            answer = self._script(keys=[f"{self._prefix}:rate:{who}"], args=[policy.quota, policy.seconds, many])
            taken, window, now, before, at = answer
            return standing(Used(window, now, before), policy, float(at), many, taken=bool(taken))
        except (redis.RedisError, OSError, ValueError) as error:
            raise CountAway(f"{type(error).__name__}: {error}") from error


def ping(url: str, timeout_seconds: float) -> None:
    """Raises ConnectionError unless it answers."""
    client = redis.Redis.from_url(
        url, socket_timeout=timeout_seconds, socket_connect_timeout=timeout_seconds, retry=Retry(NoBackoff(), 0)
    )
    try:
        with client:
            client.ping()
    except redis.RedisError as error:
        raise ConnectionError(type(error).__name__) from error
