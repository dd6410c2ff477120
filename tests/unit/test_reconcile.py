import pytest

from models.ids import new_id
from models.job import Ref
from workers.duties.reconcile import missing

OLD, MIDDLE, NEW = [Ref(new_id(), lease) for lease in (1, 2, 3)]
CLAIMS = [OLD, MIDDLE, NEW]


@pytest.mark.parametrize(
    ("claims", "waiting", "lost", "kept"),
    [
        ([], 0, [], []),
        ([], 5, [], []),
        (CLAIMS, 3, [], CLAIMS),
        (CLAIMS, 9, [], CLAIMS),
        (CLAIMS, 2, [OLD], [MIDDLE, NEW]),
        (CLAIMS, 1, [OLD, MIDDLE], [NEW]),
        (CLAIMS, 0, CLAIMS, []),
    ],
)
def test_as_many_of_the_oldest_claims_are_missing_as_there_are_messages_too_few(claims, waiting, lost, kept):
    assert missing(claims, waiting, 1) == (lost, kept)


@pytest.mark.parametrize(("waiting", "lost"), [(0, 3), (1, 1), (2, 0)])
def test_each_message_may_stand_for_several_claims(waiting, lost):
    assert missing(CLAIMS, waiting, 2) == (CLAIMS[:lost], CLAIMS[lost:])
