"""How long the model runs: the same runs each time in CI, as many new ones as you like by JOBMILL_MODEL_EXAMPLES."""

import os
from collections import Counter

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import Model
from tests.model.world import World

STEPS = 80
LONG = int(os.environ.get("JOBMILL_MODEL_EXAMPLES", "250"))
LONGEST_SECONDS = 20.0 * LONG
"""On PostgreSQL a run takes two seconds of a core here, and several times as long on a slow and busy machine."""


def run(world: World, examples: int, *, anew: bool = False, shrink: bool = True) -> Counter[str]:
    """Run the model on that database; raises what it finds wrong. Gives what it reached, and how often."""
    machine = type("JobmillModel", (Model,), {"world": world, "reached": Counter()})
    asked = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        derandomize=not anew,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=asked)
    return machine.reached
