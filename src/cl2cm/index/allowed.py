"""What the user allows an index to access outside its own folder.

An index that this user made says so itself, under a seal (seal.py). For every other one there are
the command line (``--url``, ``--backend``, ``--media-root``, ``--allow-cleartext``) and the
environment:

    CL2CM_SERVERS           addresses of servers, separated by blanks
    CL2CM_BACKENDS          backends of other packages, separated by blanks
    CL2CM_MEDIA_ROOTS       folders of images and videos, separated as in PATH
    CL2CM_ALLOW_CLEARTEXT   1: credentials may go to servers without TLS
"""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Allowed:
    """Permissions from the command line and the environment.

    Attributes:
        url: of the server that holds the index, instead of the one that the index names.
        servers: further addresses that an index may name.
        roots: folders whose images and videos may be read.
        cleartext: whether credentials may go to a server on another machine without TLS.
        backends: names of backends of other packages that an index may name.
    """

    url: str | None = None
    servers: tuple[str, ...] = ()
    roots: tuple[Path, ...] = ()
    cleartext: bool = False
    backends: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        url: str | None = None,
        roots: tuple[Path, ...] = (),
        *,
        cleartext: bool = False,
        backends: tuple[str, ...] = (),
    ) -> "Allowed":
        """Combine the permissions of the command line and of the environment."""
        folders = os.environ.get("CL2CM_MEDIA_ROOTS", "").split(os.pathsep)
        return cls(
            url,
            tuple(os.environ.get("CL2CM_SERVERS", "").split()),
            (*roots, *(Path(folder).expanduser() for folder in folders if folder)),
            cleartext or os.environ.get("CL2CM_ALLOW_CLEARTEXT") == "1",
            (*backends, *os.environ.get("CL2CM_BACKENDS", "").split()),
        )
