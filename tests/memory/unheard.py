"""Run as a program: uses the vector store in all ways, and prints whom it spoke to, and that it would have noticed."""

import json
import socket
import sys
from contextlib import suppress
from pathlib import Path

heard: list[str] = []
SPEAKING = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg")


def listen(event: str, arguments: tuple[object, ...]) -> None:
    """Notes each address that is looked up or spoken to."""
    if event in SPEAKING:
        heard.append(f"{event} {arguments[-1] if event == 'socket.connect' else arguments[0]}")


def open_connections(kind: str) -> list[str]:
    """The kernel's table of one kind, which may be missing."""
    table = Path("/proc/self/net") / kind
    return table.read_text().splitlines()[1:] if table.is_file() else []


sys.addaudithook(listen)

from memory.rebuild import open_vectors, rebuild_vectors  # noqa: E402
from memory.records import Records  # noqa: E402
from tests.memory.conftest import make_design  # noqa: E402

database, shared, private = (Path(argument) for argument in sys.argv[1:])
with Records.open(database) as records:
    for _opening in range(2):
        with open_vectors(shared, private, records) as store:
            found = len(store.nearest(make_design(), make_design(), 3)) + len(store.lessons("late FFN", 3))
    with open_vectors(shared, private, records) as store:
        rebuild_vectors(records, store)
        store.delete("prompts", list(store.ids("prompts")))
    # Connections of other languages are not audited, but are files of this process while they are open.
    lines = [line.split() for kind in ("tcp", "tcp6", "udp", "udp6") for line in open_connections(kind)]
    outward = {f"socket:[{line[9]}]": line[2] for line in lines}
    files = [str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.exists()]
    sockets = [outward[name] for name in files if name in outward]
spoken = list(heard)
with socket.socket() as probe, suppress(OSError):
    probe.connect(("127.0.0.1", 9))
print(json.dumps({"found": found, "spoken": spoken, "sockets": sockets, "noticed": heard[len(spoken) :]}))
