"""docs/operate/dead-letters.md, run as an operator runs it against an embedded Jobmill."""

import os
from pathlib import Path

from tests.acceptance.documents import examples, run_shell, told
from tests.acceptance.installation import Installation
from tests.acceptance.process import JOBMILL, environment
from tests.acceptance.test_quickstart import USUAL_ADDRESS, embedded, folder

__all__ = ["embedded", "folder"]

PATH = f"{JOBMILL.parent}:{os.environ['PATH']}"
PAGE = (Path(__file__).parents[2] / "docs" / "operate" / "dead-letters.md").read_text(encoding="utf-8")


def test_the_page_does_what_it_says(embedded: Installation, folder: Path):
    shell = examples(PAGE, "sh")
    assert len(shell) > 5
    for example in shell:
        printed = run_shell(example.text.replace(USUAL_ADDRESS, embedded.address), folder, environment(PATH=PATH))
        assert told(printed) == told(example.prints or ""), example.text
