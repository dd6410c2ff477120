"""Three RabbitMQ nodes of the tests' own, joined into a cluster, any of which may be killed and started again."""

import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self

import psutil

from tests.acceptance.private_services import RABBITMQ, READY_SECONDS, PrivateRabbitmq

COOKIE = "jobmilltestcluster"
END_SECONDS = 20


class Node(PrivateRabbitmq):
    """One node; all of a cluster know the same cookie."""

    def __init__(self, eventually: Callable[..., Any]) -> None:
        super().__init__(eventually)
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text(COOKIE)
        cookie.chmod(0o400)

    @property
    def name(self) -> str:
        return self.environment["RABBITMQ_NODENAME"]

    def kill(self) -> None:
        """End it as a power cut does: the script that was started, and the server that it started."""
        assert self.process is not None
        ended = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        for process in reversed(ended):
            process.kill()
        self.process.wait(END_SECONDS)
        psutil.wait_procs(ended, END_SECONDS)

    def join(self, other: "Node") -> None:
        """Become a member of the other's cluster."""
        self.control("stop_app")
        self.control("join_cluster", other.name)
        self.control("start_app")
        self.eventually(self._answers, READY_SECONDS)

    def wait_until_dispensable(self) -> None:
        """Wait until every queue would keep its majority without this node, as one does before taking a node down."""
        self.eventually(self._dispensable, READY_SECONDS, 0.5)

    def control(self, *words: str) -> None:
        """Have rabbitmqctl do something with this node."""
        self._command("rabbitmqctl", *words).check_returncode()

    def _dispensable(self) -> bool:
        return self._command("rabbitmq-queues", "check_if_node_is_quorum_critical").returncode == 0

    def _command(self, program: str, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [f"{RABBITMQ}/{program}", "--quiet", *words],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            timeout=READY_SECONDS,
            check=False,
        )


class Cluster:
    """Three nodes, each of which knows the others; it is gone with all they wrote when the block ends."""

    def __init__(self, eventually: Callable[..., Any]) -> None:
        self.nodes = [Node(eventually) for _ in range(3)]
        self.stack = ExitStack()

    @property
    def urls(self) -> str:
        """As RABBITMQ_URL lists them."""
        return ",".join(node.url for node in self.nodes)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for node in self.nodes:
                stack.callback(node.remove)
                node.start()
                if node is not self.nodes[0]:
                    node.join(self.nodes[0])
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stack.close()
