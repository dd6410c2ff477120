"""The `jobmill` command, with a dispatcher that takes itself for the leader, whatever the lease says."""

from cli.main import main
from workers.duties.leadership import Leadership

Leadership.held = property(lambda _self: True)  # type: ignore[assignment,method-assign]

if __name__ == "__main__":
    main()
