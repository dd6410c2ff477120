"""One process of `jobmill api`, forked by gunicorn's parent."""

from cli.http_worker import HttpWorker


class ServerProcess(HttpWorker):
    """Leaves as soon as it can when its parent was killed.

    gunicorn's own goes on listening and keeps its clients' connections, as long as they use them, for the whole grace
    period. Meanwhile whoever starts the server again finds its port taken.
    """

    def is_parent_alive(self) -> bool:
        """If not, listen no more, and have what is answered from now on say "Connection: close"."""
        if super().is_parent_alive():
            return True
        self.alive = False
        self.let_go()
        self.set_accept_enabled(enabled=False)
        return False
