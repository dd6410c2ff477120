from workers.silence import Silence


def test_it_asks_after_three_seconds_of_silence_and_again_after_three_more():
    silence = Silence(now=10.0)
    assert [silence.asks(now) for now in (10.0, 12.9, 13.0)] == [False, False, True]
    assert not silence.is_deaf(0, now=13.0)
    assert [silence.asks(now) for now in (15.9, 16.0)] == [False, True]


def test_only_messages_that_wait_at_two_questions_running_make_it_deaf():
    silence = Silence(now=0.0)
    assert [silence.is_deaf(waiting, now=3.0) for waiting in (0, 7, 0, 1, 1)] == [False, False, False, False, True]


def test_whatever_comes_in_between_puts_the_suspicion_down():
    silence = Silence(now=0.0)
    assert not silence.is_deaf(5, now=3.0)
    silence.broken(now=4.0)
    assert not silence.asks(6.9)
    assert not silence.is_deaf(5, now=7.0)
