"""What a parent makes of what its child says and how it ends, with children that only say something."""

import sys
from typing import Any

import pytest

from workers.parent import Birth, Parent
from workers.registrar import Gone

SAYS = "import os, sys; os.write(int(sys.argv[1]), sys.argv[2].encode())"
DRAINING, WORKING = "[true,true,true,0,[],1.0]\n", "[true,true,false,0,[],1.0]\n"


class Office:
    """A registrar that writes nothing, and with the first death the order to stop."""

    def __init__(self) -> None:
        self.dead: list[Gone] = []
        self.urgent = False

    @property
    def asked(self) -> bool:
        return bool(self.dead)

    def start(self) -> None: ...

    def stop(self, _timeout: float) -> None: ...

    def living(self, _children: Any) -> None: ...

    def gone(self, child: Gone) -> None:
        self.dead.append(child)


def death_of_one_that_says(words: str) -> Gone:
    def command(birth: Birth) -> list[str]:
        return [sys.executable, "-c", SAYS, str(birth.report_to), words]

    office = Office()
    assert Parent(command, 1, 1.0, office).run(office) == 0  # type: ignore[arg-type]
    return office.dead[0]


@pytest.mark.parametrize(("words", "asked"), [(DRAINING, True), (WORKING, False)])
def test_what_a_child_leaves_that_ends_as_it_was_told_to_is_no_loss(words: str, asked: bool):
    assert death_of_one_that_says(words).asked is asked


def test_a_child_that_cannot_be_understood_does_not_end_its_parent():
    assert death_of_one_that_says("what a handler printed\n").cause == "its process exited with status 0"
