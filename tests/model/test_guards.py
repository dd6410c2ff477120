"""Every guard has a test that fails without it: it is taken out of a copy of the tree, and that test must notice."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "bin" / "mutate.py"


def _loaded() -> Any:
    spec = importlib.util.spec_from_file_location("mutate", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutate"] = module
    sys.path.append(str(FILE.parent))  # where a script finds its neighbours
    spec.loader.exec_module(module)
    return module


mutate = _loaded()


@pytest.fixture(scope="module")
def copy() -> Iterator[Path]:
    with mutate.copied_tree() as folder:
        yield folder


@pytest.mark.parametrize("mutant", [each for each in mutate.MUTANTS if each.quick], ids=str)
def test_without_a_guard_its_test_fails(copy: Path, mutant: Any):
    mutate.kill(mutant, copy)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", [each for each in mutate.MUTANTS if not each.quick], ids=str)
def test_nor_does_it_pass_where_that_takes_longer(copy: Path, mutant: Any):
    mutate.kill(mutant, copy)


@pytest.mark.parametrize("mutant", mutate.MUTANTS, ids=str)
def test_every_mutation_still_fits_the_code(mutant: Any):
    assert (FILE.parents[1] / mutant.file).read_text().count(mutant.text) == 1


def test_a_guard_that_no_test_misses_is_an_error(copy: Path):
    """And one whose mutation no longer fits the code is one, too."""
    passes = "tests/unit/test_states.py"
    survivor = mutate.Mutant("nothing", "models/states.py", "UNTIL_DEAD = 3", "UNTIL_DEAD =  3", (passes,))
    gone = mutate.Mutant("nothing", "models/states.py", "no such text", "", (passes,))
    with pytest.raises(mutate.Wrong, match="survived"):
        mutate.kill(survivor, copy)
    with pytest.raises(mutate.Wrong, match="has not once"):
        mutate.kill(gone, copy)
