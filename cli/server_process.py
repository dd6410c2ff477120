"""One process of `jobmill api`, forked by gunicorn's parent."""

from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from cli.compose import let_go


class ServerProcess(ThreadWorker):
    """Leaves as soon as it can when its parent was killed.

    gunicorn's own goes on listening and keeps its clients' connections, as long as they use them, for the whole grace
    period. Meanwhile whoever starts the server again finds its port taken.
    """

    sockets: Any
    wsgi: Any = None  # until it is loaded; a signal may come before that

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Take no more requests, and let clients go that wait for a job: they would outlast the grace period."""
        self._let_go()
        super().handle_exit(sig, frame)

    def is_parent_alive(self) -> bool:
        """If not, listen no more, and have what is answered from now on say "Connection: close"."""
        if super().is_parent_alive():
            return True
        self.alive = False
        self._let_go()
        self.set_accept_enabled(enabled=False)
        for listener in self.sockets:
            listener.close()
        return False

    def _let_go(self) -> None:
        if self.wsgi is not None:
            let_go(self.wsgi)
