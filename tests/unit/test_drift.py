"""What RabbitMQ says of a queue with other arguments, as an operator is told it, and how it is left alone."""

import pytest

from workers.drift import Shunned, WrongQueue, wrong_queue

TOLD = (
    "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'jobmill.media' in vhost '/': "
    "received the value 'quorum' of type 'longstr' but current is none"
)


def answer(text: str = TOLD, code: int = 406) -> BaseException:
    error = Exception(text)
    error.reply_code, error.reply_text = code, text  # type: ignore[attr-defined]
    return error


def test_the_queue_what_differs_and_the_remedy_are_told_in_one_line():
    wrong = wrong_queue(answer())
    assert wrong is not None
    assert wrong.queue == "jobmill.media"
    assert str(wrong) == (
        "RabbitMQ has a queue 'jobmill.media' that was made with other arguments: x-queue-type is none, and Jobmill "
        "needs 'quorum'. Run: jobmill queues migrate. Or delete it: rabbitmqctl -p / delete_queue jobmill.media; no "
        "job is lost by that, since everything of ours in it is a row, and it is made anew."
    )


def test_wrong_dead_letters_are_named_and_belong_to_their_queue():
    wrong = wrong_queue(answer(TOLD.replace("jobmill.media", "jobmill.media.XQ")))
    assert wrong is not None
    assert wrong.queue == "jobmill.media"
    assert "delete_queue jobmill.media.XQ;" in str(wrong)


@pytest.mark.parametrize(
    "error",
    [
        answer(code=404),
        answer("PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out"),
        ConnectionError("reset by peer"),
    ],
)
def test_nothing_else_is_taken_for_it(error: BaseException):
    assert wrong_queue(error) is None


def test_a_wrong_queue_is_left_alone_ever_longer_and_no_other_queue_with_it():
    shunned, now, waits = Shunned(), 1000.0, []
    for _ in range(8):
        shunned.failed(WrongQueue("media", "told"), now)
        waits.append(shunned.seconds_left("media", now))
        now += waits[-1]
        assert shunned.seconds_left("media", now) == 0
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert shunned.seconds_left("default", now) == 0


def test_once_it_works_it_is_forgiven():
    shunned = Shunned()
    shunned.failed(WrongQueue("media", "told"), 0)
    shunned.failed(WrongQueue("media", "told"), 0)
    shunned.worked("media")
    assert shunned.seconds_left("media", 0) == 0
    shunned.failed(WrongQueue("media", "told"), 0)
    assert shunned.seconds_left("media", 0) == 1
