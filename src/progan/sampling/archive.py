"""A zip of many pictures, written one after another in little memory; what was cut off goes on.

Members are stored as they are, since pictures are compressed already, with the first date that a zip can have: equal
pictures make equal files. (Python's `zipfile` keeps an object for each member, and cannot go on with a file that has no
directory yet.)
"""

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

# APPNOTE.TXT of PKWARE, 4.3.7, 4.3.12, 4.3.14 to 4.3.16 and 4.5.3.
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_END = struct.Struct("<4s4H2LH")
_VERSION, _VERSION_64 = 20, 45
_UTF8, _DATE = 0x800, 0x21  # names in UTF-8; 1 January 1980
_UNIX, _MODE = 3 << 8, 0o100644 << 16  # a file that all may read
_FULL_16, _FULL_32 = 0xFFFF, 0xFFFFFFFF


class _Member(NamedTuple):
    name: bytes
    crc: int
    size: int
    offset: int


class GrowingZip:
    """A zip without its directory yet, which `finish` writes.

    Of a file that is there the members are kept that are whole and have the given names, up to the first that is or has
    not.
    """

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        self._path = path
        self._file: BinaryIO = path.open("r+b" if path.exists() else "w+b")
        self.count = 0
        """Number of the members that are there."""
        end = 0
        for member, name in zip(self._members(), names, strict=False):
            content = self._file.read(member.size)
            whole = len(content) == member.size and zlib.crc32(content) == member.crc
            if not whole or member.name != name.encode():
                break
            self.count, end = self.count + 1, self._file.tell()
        self._file.truncate(end)
        self._file.seek(end)

    def add(self, name: str, content: bytes) -> None:
        """Append a member."""
        encoded, size = name.encode(), len(content)
        head = (_VERSION, _UTF8, 0, 0, _DATE, zlib.crc32(content), size, size, len(encoded), 0)
        self._file.write(_LOCAL.pack(b"PK\x03\x04", *head) + encoded + content)
        self.count += 1

    def finish(self) -> None:
        """Write the directory of all members, and close the file."""
        self._file.flush()
        start = self._file.tell()
        with self._path.open("ab") as out:
            for member in self._members(start):
                out.write(_entry(member))
            out.write(_end(start, out.tell() - start, self.count))
            out.flush()
            os.fsync(out.fileno())
        self.close()

    def close(self) -> None:
        """Leave it as it is, for another time."""
        self._file.close()

    def _members(self, end: int | None = None) -> Iterator[_Member]:
        """The members one after another, as far as they have whole heads; the file stands where each begins."""
        offset = 0
        while end is None or offset < end:
            self._file.seek(offset)
            head = self._file.read(_LOCAL.size)
            if len(head) < _LOCAL.size:
                return
            signature, _, _, _, _, _, crc, size, _, length, _ = _LOCAL.unpack(head)
            name = self._file.read(length)
            if signature != b"PK\x03\x04" or len(name) < length:
                return
            yield _Member(name, crc, size, offset)
            offset += _LOCAL.size + length + size


def _entry(member: _Member) -> bytes:
    """A member's entry in the directory."""
    far = member.offset >= _FULL_32
    extra = struct.pack("<2HQ", 1, 8, member.offset) if far else b""
    version = _VERSION_64 if far else _VERSION
    about = (
        _UNIX | version,
        version,
        _UTF8,
        0,
        0,
        _DATE,
        member.crc,
        member.size,
        member.size,
        len(member.name),
        len(extra),
    )
    place = (0, 0, 0, _MODE, min(member.offset, _FULL_32))
    return _CENTRAL.pack(b"PK\x01\x02", *about, *place) + member.name + extra


def _end(start: int, size: int, count: int) -> bytes:
    """What follows a directory of `size` bytes and `count` entries that begins at `start`."""
    end = _END.pack(b"PK\x05\x06", 0, 0, *[min(count, _FULL_16)] * 2, min(size, _FULL_32), min(start, _FULL_32), 0)
    if count < _FULL_16 and start + size < _FULL_32:
        return end
    rest = _END_64.size - 12  # without what says how long it is
    wide = _END_64.pack(b"PK\x06\x06", rest, _VERSION_64, _VERSION_64, 0, 0, count, count, size, start)
    return wide + _LOCATOR.pack(b"PK\x06\x07", 0, start + size, 1) + end
