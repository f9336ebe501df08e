"""Which disk images a power failure may leave, and in which order they are tried."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import astuple, replace
from typing import Final

from tests.crash_states.disk import Case, Choice, Disk, File, Image, Write

_SECTOR: Final = 512
NOTHING: Final = Choice(())


def text_of(case: Case) -> str:
    """Return a case such that it can be given on a command line."""
    return json.dumps(astuple(case), separators=(",", ":"))


def parsed(text: str) -> Case:
    call, files, folders = json.loads(text)
    return Case(
        call,
        tuple((number, Choice(tuple(kept), *rest)) for number, (kept, *rest) in files),
        tuple((number, count) for number, count in folders),
    )


def hash_of(image: Image) -> bytes:
    """Return what two images share only if they are the same."""
    total = hashlib.blake2b(digest_size=16)
    for name, content in image.items():
        is_folder = content is None
        total.update(f"{name}\0{is_folder}\0{len(content or b'')}\0".encode())
        total.update(content or b"")
    return total.digest()


def in_turn(disks: Sequence[Disk], chance: random.Random) -> Iterator[Case]:
    """Return cases without end: of each call in turn, one that is listed and one by chance.

    Parameters
    ----------
    disks
        The disk after each call.
    """
    calls = list(range(len(disks)))
    chance.shuffle(calls)
    waiting: dict[int, list[Case]] = {}
    while True:
        for call in calls:
            if call not in waiting:
                waiting[call] = listed(call, disks[call])
                chance.shuffle(waiting[call])
            if waiting[call]:
                yield waiting[call].pop()
            yield by_chance(call, disks[call], chance)


def listed(call: int, disk: Disk) -> list[Case]:
    """Return the cases in which one file or folder is torn; of others all is there, or nothing."""
    files, folders = disk.files(), disk.folders()
    no_bytes = dict.fromkeys(files, NOTHING)
    no_names = dict.fromkeys(folders, 0)
    found = []
    for bytes_there in ({}, no_bytes):
        for names_there in ({}, no_names):
            found.append(_case(call, bytes_there, names_there))
            found += [
                _case(call, {**bytes_there, number: choice}, names_there)
                for number, file in files.items()
                for choice in choices(file)
            ]
            found += [
                _case(call, bytes_there, {**names_there, number: count})
                for number, folder in folders.items()
                for count in range(len(folder.pending))
            ]
    return list(dict.fromkeys(found))


def _case(call: int, files: dict[int, Choice], folders: dict[int, int]) -> Case:
    return Case(call, tuple(files.items()), tuple(folders.items()))


def choices(file: File) -> list[Choice]:
    """Return what may be left of one file, of which some writes wait.

    The first of them; these, and the size of all; one alone; all but one; all, the last torn.
    """
    whole = tuple(range(len(file.pending)))
    found = [Choice(whole)]
    for number in whole:
        found += [
            Choice(whole[:number]),
            Choice(whole[:number], grown=True),
            Choice((number,)),
            Choice((*whole[:number], *whole[number + 1 :])),
        ]
    found += [Choice(whole, cut) for cut in cuts(file.pending[-1])]
    return found


def cuts(write: Write) -> list[int]:
    """Return at which bytes a write may be torn."""
    length = len(write.data or b"")
    cuts = {1, length // 2, length - 1, *range(_SECTOR, length, _SECTOR)}
    return sorted(cut for cut in cuts if 0 < cut < length)


def by_chance(call: int, disk: Disk, chance: random.Random) -> Case:
    """Return a case in which every file and folder is left in a way of its own."""
    files = {number: _choice(file, chance) for number, file in disk.files().items()}
    folders = {
        number: chance.choice((len(folder.pending), chance.randint(0, len(folder.pending))))
        for number, folder in disk.folders().items()
    }
    return _case(call, files, folders)


def _choice(file: File, chance: random.Random) -> Choice:
    whole = tuple(range(len(file.pending)))
    how = chance.random()
    if how < 0.3:
        return Choice(whole)
    if how < 0.4:
        return NOTHING
    if how < 0.6:
        kept = whole[: chance.randint(0, len(whole))]
    elif how < 0.8:
        lost = chance.choice(whole)
        kept = tuple(number for number in whole if number != lost)
    else:
        share = chance.random()
        kept = tuple(number for number in whole if chance.random() < share)
    choice = Choice(kept, grown=chance.random() < 0.2)
    if kept and chance.random() < 0.3 and (torn := cuts(file.pending[kept[-1]])):
        choice = replace(choice, cut=chance.choice(torn))
    return choice
