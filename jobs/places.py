"""Where in the user's code an exception came from, told so that it stays the same when lines move."""

import sysconfig
import traceback
from dataclasses import dataclass
from pathlib import PurePath
from types import FrameType, TracebackType

LONGEST = 200
_OURS = {"api", "cli", "jobs", "models", "setting_forms", "settings", "workers"}
_SHIPPED = "jobs.builtin"
_LIBRARIES = tuple({f"{path}/" for name, path in sysconfig.get_paths().items() if name.endswith(("stdlib", "lib"))})
_INSTALLED = {"site-packages", "dist-packages"}
# Functions of their own up to Python 3.11, and part of the one around them since (PEP 709).
_INLINED = ("<listcomp>", "<setcomp>", "<dictcomp>")


@dataclass(frozen=True)
class _Frame:
    module: str
    function: str
    file: str

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]

    @property
    def ours(self) -> bool:
        shipped = self.module == _SHIPPED or self.module.startswith(f"{_SHIPPED}.")
        return self.package in _OURS and not shipped

    @property
    def library(self) -> bool:
        if self.file.startswith("<frozen"):
            return True
        path = PurePath(self.file)
        return bool(_INSTALLED & set(path.parts)) or self.file.startswith(_LIBRARIES)


def place_of(error: BaseException) -> str | None:
    """The innermost function of the user's code that the exception left, as `acme.greetings:greet`; None: of none.

    That is code outside of Jobmill, Python and installed packages. Where all of it is installed, as job types may be,
    it is the code of the first package that Jobmill called.
    """
    theirs = [frame for frame in _frames(error) if not frame.ours]
    users = [frame for frame in theirs if not frame.library] or [
        frame for frame in theirs if frame.package == theirs[0].package
    ]
    if not users:
        return None
    return f"{users[-1].module}:{_outside_comprehensions(users[-1].function)}"[:LONGEST]


def users_part(error: BaseException) -> TracebackType | None:
    """The exception's traceback from where Jobmill called the user's code; all of it if it never did."""
    part = error.__traceback__
    while part is not None and _frame(part.tb_frame).ours:
        part = part.tb_next
    return part or error.__traceback__


def _frames(error: BaseException) -> list[_Frame]:
    """The frames that the exception passed, outermost first."""
    return [_frame(frame) for frame, _line in traceback.walk_tb(error.__traceback__)]


def _frame(frame: FrameType) -> _Frame:
    return _Frame(str(frame.f_globals.get("__name__", "?")), frame.f_code.co_qualname, frame.f_code.co_filename)


def _outside_comprehensions(function: str) -> str:
    while function.endswith(_INLINED):
        function = function.rpartition(".")[0].removesuffix(".<locals>")
    return function
