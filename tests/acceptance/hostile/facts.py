"""What the rows of the catalogue are filled in with: keys, tokens, ids and cursors of a running installation."""

import json
import re
import socket
from typing import Any

import httpx2

from tests.acceptance.hostile import forged
from tests.acceptance.hostile.framing import SMUGGLED
from tests.acceptance.installation import Installation
from tests.acceptance.process import jobmill

_WORD = re.compile(rb"@([A-Z0-9_]+)@")


class Facts:
    """Fills in what is sent. `secrets` are those that no log may hold."""

    def __init__(self, installation: Installation, trap: socket.socket) -> None:
        self.installation = installation
        self.key = installation.key
        other = self._made("keys", "create", "--tenant", self._tenant("other"), "--name", "other", "--role", "admin")
        viewer = self._made("keys", "create", "--tenant", "default", "--name", "viewer", "--role", "viewer")
        revoked = self._made("keys", "create", "--tenant", "default", "--name", "revoked", "--role", "admin")
        self._made("keys", "revoke", revoked["id"])
        self.known = {
            "KEY": self.key,
            "ID": self.key.split("_")[1],
            "SECRET": self.key.split("_", 2)[2],
            "OTHER": other["token"],
            "OTHER_ID": other["id"],
            "VIEWER": viewer["token"],
            "REVOKED": revoked["token"],
            "TRAP": str(trap.getsockname()[1]),
        }
        self.known |= self._jobs() | self._token()
        self.known |= forged.tokens(self.known, self._answer("/.well-known/jwks.json")["keys"][0])
        self.known["SMUGGLED"] = str(len(self.filled(SMUGGLED)))
        self.secrets = [self.known[name].encode() for name in ("SECRET", "OTHER", "VIEWER", "REVOKED", "TOKEN", "GOOD")]

    def filled(self, sent: bytes) -> bytes:
        """With every @WORD@ replaced; @LENGTH@ by that of all that stands behind its head."""
        head, blank, body = sent.partition(b"\r\n\r\n")
        body = self.filled(body) if blank else body
        return self._filled(head.replace(b"@LENGTH@", b"%d" % len(body))) + blank + body

    def _filled(self, sent: bytes) -> bytes:
        return _WORD.sub(lambda found: self.known[found[1].decode()].encode(), sent)

    def _tenant(self, name: str) -> str:
        self._made("tenants", "create", name)
        return name

    def _made(self, *words: str) -> dict[str, Any]:
        done = jobmill(*words, "--json", settings=self.installation.settings, folder=self.installation.folder)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def _answer(self, path: str, key: str | None = None, **params: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {key or self.key}"}
        answer = self.installation.client.get(path, params=params, headers=headers)
        assert answer.status_code == httpx2.codes.OK, answer.text
        return answer.json()

    def _jobs(self) -> dict[str, str]:
        """Jobs of ours and of the other tenant, and cursors to both and to a list of something else."""
        ours = [self._job(self.key, f"ours-{number}") for number in range(3)]
        theirs = [self._job(self.known["OTHER"], f"theirs-{number}") for number in range(3)]
        return {
            "USED": "ours-0",
            "JOB": ours[0],
            "OTHER_JOB": theirs[0],
            "CURSOR": self._answer("/v1/jobs", limit="1")["next_cursor"],
            "OTHER_CURSOR": self._answer("/v1/jobs", self.known["OTHER"], limit="1")["next_cursor"],
            "FILTER_CURSOR": self._answer("/v1/jobs", limit="1", type="demo.echo")["next_cursor"],
            "KEYS_CURSOR": self._answer("/v1/keys", limit="1")["next_cursor"],
        }

    def _job(self, key: str, idempotency_key: str) -> str:
        body = {"type": "demo.echo", "args": {"value": idempotency_key}, "delay_seconds": 86400}
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": idempotency_key}
        answer = self.installation.client.post("/v1/jobs", json=body, headers=headers)
        assert answer.status_code == httpx2.codes.ACCEPTED, answer.text
        return answer.json()["id"]

    def _token(self) -> dict[str, str]:
        form = {"grant_type": "client_credentials"}
        answer = self.installation.client.post("/oauth/token", data=form, auth=(self.known["ID"], self.known["SECRET"]))
        assert answer.status_code == httpx2.codes.OK, answer.text
        return {"TOKEN": answer.json()["access_token"]}
