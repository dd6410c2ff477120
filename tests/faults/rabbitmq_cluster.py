"""Three RabbitMQ nodes of the tests' own, joined into a cluster, any of which may be killed and started again."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self

from tests.acceptance.private_services import READY_SECONDS, PrivateRabbitmq

COOKIE = "jobmilltestcluster"


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

    def join(self, other: "Node") -> None:
        """Become a member of the other's cluster."""
        self.control("stop_app")
        self.control("join_cluster", other.name)
        self.control("start_app")
        self.eventually(self._answers, READY_SECONDS)

    def wait_until_dispensable(self) -> None:
        """Wait until every queue would keep its majority without this node, as one does before taking a node down."""
        self.eventually(self._dispensable, READY_SECONDS, 0.5)

    def _dispensable(self) -> bool:
        return self._command("rabbitmq-queues", "check_if_node_is_quorum_critical").returncode == 0


class Cluster:
    """Three nodes, each of which knows the others; it is gone with all they wrote when the block ends."""

    def __init__(self, eventually: Callable[..., Any]) -> None:
        self.nodes = [Node(eventually) for _ in range(3)]
        self.stack = ExitStack()

    @property
    def urls(self) -> str:
        """As RABBITMQ_URL lists them."""
        return ",".join(node.url for node in self.nodes)

    def leader_of(self, queue: str) -> Node:
        """The node that leads a quorum queue now."""
        listed = self.nodes[0].control("list_queues", "name", "leader", "--no-table-headers")
        leaders = dict(line.split("\t") for line in listed.splitlines())
        return next(node for node in self.nodes if node.name == leaders[queue])

    def queues_without(self, dead: Node) -> str:
        """How the queues are, in the words of a node that lives."""
        living = next(node for node in self.nodes if node is not dead)
        return living.control(
            "list_queues", "name", "leader", "online", "messages_ready", "messages_unacknowledged", "consumers"
        )

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
