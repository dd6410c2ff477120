"""The model is worth what it notices: each of these variants is wrong in one place, and must be caught."""

import pytest
from sqlalchemy.exc import IntegrityError, MultipleResultsFound

from tests.model.broken import INDICES, RARE, UNTOLD, VARIANTS, Variant, broken, without_index
from tests.model.runs import run
from tests.model.world import World

MOST_EXAMPLES = 120
SLOWLY = {
    "a rescue forgets that its job is to be cancelled",
    "an idempotency key is everyone's",
    "a redrive lowers the lease",
    "a retry forgets that its job is to be cancelled",
    "a job that a loss would bury begins beside others",
    "a redrive gives no fresh attempts",
    "a cancelled job can be cancelled again",
    "what just ended is pruned with what is old",
}
"""Those that take some thousand steps to notice."""
NOTICED = (AssertionError, IntegrityError, MultipleResultsFound)


@pytest.mark.parametrize(
    "variant", [pytest.param(one, marks=[pytest.mark.long] if one.name in SLOWLY else []) for one in VARIANTS], ids=str
)
def test_a_model_that_is_wrong_in_one_place_is_caught(sqlite_model: World, variant: Variant):
    with broken(variant), pytest.raises(NOTICED):
        run(sqlite_model, MOST_EXAMPLES, shrink=False)


@pytest.mark.parametrize("variant", UNTOLD, ids=str)
def test_so_is_one_that_does_not_tell_whoever_listens(sqlite_model: World, variant: Variant):
    with sqlite_model.listening(), broken(variant), pytest.raises(NOTICED):
        run(sqlite_model, MOST_EXAMPLES, shrink=False)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("variant", RARE, ids=str)
def test_so_is_one_that_is_hard_to_notice(sqlite_model: World, variant: Variant):
    with broken(variant), pytest.raises(NOTICED):
        run(sqlite_model, 20 * MOST_EXAMPLES, anew=True, shrink=False)


@pytest.mark.parametrize("rule", INDICES)
def test_and_so_is_a_database_without_one_of_its_rules(sqlite_model: World, rule: str):
    with without_index(sqlite_model.database, INDICES[rule]), pytest.raises(NOTICED):
        run(sqlite_model, MOST_EXAMPLES, shrink=False)


def test_one_that_is_right_is_not(sqlite_model: World):
    """By as many runs as notice most of those above; `test_model` makes more."""
    run(sqlite_model, MOST_EXAMPLES // 8, shrink=False)
