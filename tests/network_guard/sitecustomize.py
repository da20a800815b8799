"""Put on PYTHONPATH: every connection and name look-up of this process, but for loopback, fails.

Each is also written to the file $NETWORK_GUARD, for a library may swallow the error.
"""

import os
import socket
import sys
import traceback

LOOPBACK = ("127.", "::1", "localhost")


def _refuse(what, address):
    host = address[0] if isinstance(address, tuple) else address
    host = host.decode() if isinstance(host, bytes) else host
    if host is None or host == "" or str(host).startswith(LOOPBACK):
        return
    with open(os.environ["NETWORK_GUARD"], "a") as file:  # noqa: PTH123 - nothing is imported yet
        file.write(f"{what} {address!r} {sys.argv}\n")
        traceback.print_stack(file=file)
    raise OSError(f"the network guard refuses {what} {address!r}")


def _audit(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        if arguments[0].family in (socket.AF_INET, socket.AF_INET6) and arguments[1] is not None:
            _refuse(event, arguments[1])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        _refuse(event, arguments[0])


if os.environ.get("NETWORK_GUARD"):
    sys.addaudithook(_audit)
