"""Random moments that can be had again: JOBMILL_TEST_SEED gives the seed, which is printed else."""

import os
import random


def chance() -> random.Random:
    """A source of chance; what it strikes is up to the machine."""
    seed = int(os.environ.get("JOBMILL_TEST_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"seed {seed}")  # noqa: T201 - for the next run
    return random.Random(seed)  # noqa: S311 - it must be repeatable
