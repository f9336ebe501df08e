"""Which file systems lie on another machine: there, mapped files are slow and not safe."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_NETWORK: Final = {
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs", "gfs2", "glusterfs", "gpfs",
    "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs",
    "virtiofs", "wekafs",
}  # fmt: skip
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")
"""How the kernel writes blanks, line ends and backslashes in a path."""
_LOCAL_FUSE: Final = {"fuseblk", "fuse.fuse-overlayfs", "fuse.bindfs", "fuse.ntfs-3g"}


def is_on_network(path: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Return whether a path lies on a network file system, as far as the system says.

    Parameters
    ----------
    mounts
        Linux's table of mounts; where there is none, every path counts as local.
    """
    kind = _file_system(path, mounts)
    return kind in _NETWORK or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE)


def _character(escaped: re.Match[str]) -> str:
    return chr(int(escaped[1], 8))


def _file_system(path: Path, mounts: Path) -> str:
    """Return the type of the file system of the longest mount point that the path lies under."""
    place = str(path.resolve())
    kind, longest = "", -1
    try:
        with mounts.open(encoding="utf-8", errors="surrogateescape") as lines:
            for words in map(str.split, lines):
                if len(words) < 3:
                    continue
                point, of_type = _ESCAPED.sub(_character, words[1]).rstrip("/"), words[2]
                if len(point) >= longest and (place == point or place.startswith(point + "/")):
                    kind, longest = of_type, len(point)
    except OSError:
        return ""
    return kind
