"""When to look at a job again, as arithmetic."""

from datetime import UTC, datetime, timedelta

import pytest

from api.pace import look_again

NOW = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("due_in", "takes", "seconds"),
    [
        (0, 0, 1),
        (0, 0.2, 1),
        (0, 7.2, 8),
        (-3, 7.2, 5),
        (0, 300, 30),
        (12, 0.1, 13),
        (86_400, 1, 30),
        (-7, 7, 1),
        (-20, 8, 3),
        (-3600, 8, 30),
    ],
)
def test_a_job_is_looked_at_when_it_should_have_ended(due_in: float, takes: float, seconds: int) -> None:
    assert look_again(NOW + timedelta(seconds=due_in + takes), NOW) == seconds
