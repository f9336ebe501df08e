"""Which file systems count as lying on another machine."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

import sqlstore
from sqlstore.log import mounts
from sqlstore.log.mounts import is_on_network

TABLE = r"""sysfs /sys sysfs rw,nosuid 0 0
/dev/sda1 / ext4 rw,relatime 0 0
server:/export /net nfs4 rw,vers=4.2 0 0
/dev/sdb1 /net/local ext4 rw 0 0
me@host: /net/local/far fuse.sshfs rw 0 0
/dev/sdc1 /usb fuseblk rw 0 0
overlay /box fuse.fuse-overlayfs rw 0 0
//nas/share /mnt/my\040photos\040(all) cifs rw 0 0
tag /vm 9p rw 0 0
tag /vm2 virtiofs rw 0 0
bucket /s3 fuse.s3fs rw 0 0
tmpfs /later tmpfs rw 0 0
late:/x /later nfs rw 0 0
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "mounts"
    path.write_text(TABLE)
    return path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", False),
        ("/home/me/birds", False),
        ("/net", True),
        ("/net/birds", True),
        ("/network/birds", False),
        ("/net/local", False),
        ("/net/local/birds", False),
        ("/net/local/far/birds", True),
        ("/net/../home", False),
        ("/usb/birds", False),
        ("/box/birds", False),
        ("/mnt/my photos (all)/birds", True),
        ("/mnt/my photos", False),
        ("/vm/birds", True),
        ("/vm2/birds", True),
        ("/s3/birds", True),
        ("/later/birds", True),
    ],
)
def test_the_innermost_mount_decides(table: Path, path: str, expected: bool) -> None:
    assert is_on_network(Path(path), table) is expected


def test_a_link_counts_as_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    table = tmp_path / "mounts"
    table.write_text(f"a / ext4 rw 0 0\nb {tmp_path}/far nfs rw 0 0\n")
    assert is_on_network(tmp_path / "near" / "birds", table)
    assert not is_on_network(tmp_path / "birds", table)


@pytest.mark.parametrize("name", ["tab\tname", "line\nname", "back\\slash", "nämé", "#name"])
def test_names_are_read_as_the_system_writes_them(tmp_path: Path, name: str) -> None:
    written = name
    for special in ("\\", " ", "\t", "\n", "#"):
        written = written.replace(special, f"\\{ord(special):03o}")
    table = tmp_path / "mounts"
    table.write_text(f"a / ext4 rw 0 0\nb {tmp_path.resolve()}/{written} nfs rw 0 0\n")
    assert is_on_network(tmp_path / name / "birds", table)
    assert not is_on_network(tmp_path / "other", table)


def test_names_need_not_be_text(tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_bytes(b"a / ext4 rw 0 0\nb /caf\xe9 nfs rw 0 0\n")
    assert is_on_network(Path("/caf\udce9/birds"), table)
    assert not is_on_network(Path("/cafe"), table)


@pytest.mark.parametrize("content", ["", "\n", "nonsense\n", "a b\n\nc /d nfs\n"])
def test_a_table_that_makes_no_sense_says_nothing(tmp_path: Path, content: str) -> None:
    table = tmp_path / "mounts"
    table.write_text(content)
    assert not is_on_network(tmp_path, table)


def test_without_a_table_everything_is_local(tmp_path: Path) -> None:
    assert not is_on_network(tmp_path, tmp_path / "no such file")
    assert not is_on_network(tmp_path, tmp_path)
    assert not is_on_network(tmp_path)


@pytest.mark.parametrize(("on_network", "expected"), [(False, "mmap"), (True, "pread")])
def test_the_mode_follows_the_file_system(tmp_path: Path, on_network: bool, expected: str) -> None:
    with sqlstore.create(tmp_path / "s", fields={"f": "bytes"}) as store:
        store.extend([{"f": b"value"}])
    with (
        mock.patch.object(mounts, "is_on_network", return_value=on_network) as asked,
        sqlstore.open(tmp_path / "s") as store,
    ):
        asked.assert_called_once_with(tmp_path / "s")
        assert store._source.how.io == expected
        assert store.raw(0, "f") == b"value"
