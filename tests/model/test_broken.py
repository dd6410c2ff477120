"""The model is worth what it notices: each of these variants is wrong in one place, and must be caught."""

import pytest
from sqlalchemy.exc import IntegrityError, MultipleResultsFound

from tests.model.broken import INDICES, RARE, VARIANTS, Variant, broken, without_index
from tests.model.runs import run
from tests.model.world import World

MOST_EXAMPLES = 120
NOTICED = (AssertionError, IntegrityError, MultipleResultsFound)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_model_that_is_wrong_in_one_place_is_caught(sqlite_model: World, variant: Variant):
    with broken(variant), pytest.raises(NOTICED):
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
