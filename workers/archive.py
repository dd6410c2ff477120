"""Files of letters that are pruned: one letter a line, by day and bounded in size, on the disk before anything goes."""

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path

import orjson

from models.letters import Letter

MOST_BYTES = 64 * 1024 * 1024
"""A file that would grow beyond it is left, and the next begun; one batch alone may be larger."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class ArchiveFailed(Exception):  # noqa: N818 - reads as the sentence it is
    """The letters could not be written down; nothing of them may be deleted."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(f"JOBMILL_ARCHIVE_DIR={folder} cannot be written: {why}.")


def line(letter: Letter) -> bytes:
    """A letter as a line: `job` as the API tells it and `events`, its history, each attempt's error among them."""
    return orjson.dumps(letter, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)


class _File:
    """A file that nobody else writes to, since it was made here, and that holds whole batches only."""

    def __init__(self, path: Path, day: date) -> None:
        self.path = path
        self.day = day
        self.size = 0
        self.descriptor = os.open(path, _NEW, 0o600)
        try:
            _keep_name(path)
        except OSError:
            self.abandon()
            raise

    def append(self, body: bytes) -> None:
        """Have the body on the disk. Raises OSError."""
        rest = memoryview(body)
        while rest:
            rest = rest[os.write(self.descriptor, rest) :]
        os.fsync(self.descriptor)
        # Whoever moved it away in the meantime may have copied it before this batch.
        if not self._is_in_place():
            raise OSError(errno.ENOENT, f"{self.path.name} was taken away while it was written")
        self.size += len(body)

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self.descriptor), self.path.lstat())
        except FileNotFoundError:
            return False

    def abandon(self) -> None:
        """Leave what was appended before, and no part of a batch that failed, as far as the disk lets us."""
        with suppress(OSError):
            os.ftruncate(self.descriptor, self.size)
        self.close()
        if self.size == 0:
            with suppress(OSError):
                self.path.unlink()

    def close(self) -> None:
        with suppress(OSError):
            os.close(self.descriptor)


def _keep_name(path: Path) -> None:
    """Have a new file's name on the disk as well, which is its folder's."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Archive:
    """Appends letters to `letters-<day>-<number>.jsonl` in a folder that it never makes: it may be a disk gone missing.

    No two processes share a file, so that none tears the other's lines, and none is ever opened again.
    """

    def __init__(
        self, folder: Path, most_bytes: int = MOST_BYTES, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.folder = folder
        self.most_bytes = most_bytes
        self.now = now
        self._file: _File | None = None

    def write(self, letters: Sequence[Letter]) -> None:
        """Have the letters on the disk when this returns. Raises ArchiveFailed; some may be there then all the same."""
        body = b"".join(map(line, letters))
        try:
            self._file_for(len(body)).append(body)
        except OSError as error:
            # Not tried again on this one: after a failed fsync the next may succeed and say nothing of what was lost.
            if self._file is not None:
                self._file.abandon()
            self._file = None
            raise ArchiveFailed(self.folder, error.strerror or str(error)) from None

    def _file_for(self, size: int) -> _File:
        day, file = self.now().date(), self._file
        if file is not None and (file.day != day or (file.size and file.size + size > self.most_bytes)):
            file.close()
            file = None
        self._file = file or self._next(day)
        return self._file

    def _next(self, day: date) -> _File:
        number = 1 + sum(1 for _ in self.folder.glob(f"letters-{day}-*"))
        while True:
            try:
                return _File(self.folder / f"letters-{day}-{number:04}.jsonl", day)
            except FileExistsError:
                number += 1
