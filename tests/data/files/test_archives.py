"""Archives that come from anywhere: what they may cost is bounded, and what is wrong with them is one line."""

import io
import os
import struct
import tarfile
import tracemalloc
import zipfile

import pytest

from fewlabels.data.files import archives
from fewlabels.data.files.skipped import Unreadable
from fewlabels.types import UserError

NAMES = ("train/ant/0.png", "train/ant/1.png", "test/ant/0.png")


def everything(path):
    found = dict(archives.members(path, archives.member_names(path)))
    for content in found.values():
        if isinstance(content, Unreadable):
            raise content
    return found


def entry(name, content=b"", **changes):
    """One member as the bytes that stand in a tar."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def tar_of(tmp_path, *entries, packed=False):
    path = tmp_path / ("mine.tar.gz" if packed else "mine.tar")
    with archives.gzip.open(path, "wb") if packed else path.open("wb") as file:
        file.writelines([*entries, bytes(1024)])
    return path


MANY = archives.MAX_HEADER_BYTES + 1
PAX = b"%d a=" % (MANY + 20) + b"x" * MANY + b"\n"
SPARSE_BLOCK = struct.pack("12s12s", b"00000000001", b"00000000001") * 21 + b"\1" + bytes(7)  # says that another follows
HOSTILE = {
    "a long name": [entry("x", b"n" * MANY, type=tarfile.GNUTYPE_LONGNAME)],
    "a long link": [entry("x", b"n" * MANY, type=tarfile.GNUTYPE_LONGLINK)],
    "attributes": [entry("x", PAX, type=tarfile.XHDTYPE)],
    "global attributes": [entry("x", PAX, type=tarfile.XGLTYPE)],
    "a name whose end is missing": [entry("x", type=tarfile.GNUTYPE_LONGNAME, size=2**40)],
    "the map of a sparse file": [
        entry("x", type=tarfile.GNUTYPE_SPARSE)[:482] + b"\1" + bytes(29),
        SPARSE_BLOCK * (MANY // 512),
    ],
    "headers before headers": [entry("x", b"n" * 10, type=tarfile.GNUTYPE_LONGNAME) * (MANY // 1024 + 1)],
}


def checked(block):
    """The checksum of a header that was changed by hand."""
    total = sum(block[:148]) + sum(block[156:512]) + 8 * 32
    return block[:148] + b"%06o\0 " % total + block[156:]


HOSTILE["the map of a sparse file"][0] = checked(HOSTILE["the map of a sparse file"][0])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE)
def test_what_stands_before_a_member_is_bounded(tmp_path, entries, packed):
    for before in ([], [entry(NAMES[0], b"image")]):
        path = tar_of(tmp_path, *before, *entries, entry(NAMES[1], b"image"), packed=packed)
        with pytest.raises(UserError, match="cannot read the archive .*mine.tar.*(before one member|recursion)"):
            archives.member_names(path)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_ordinary_long_names_are_read_however_many(tmp_path, form, monkeypatch):
    monkeypatch.setattr(archives, "MAX_HEADER_BYTES", 4096)
    names = [f"train/{'ant' * 100}é/{i}.png" for i in range(20)]
    with tarfile.open(tmp_path / "mine.tar.gz", "w:gz", format=form, pax_headers={"comment": "c"}) as archive:
        for i, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = 5000 + i
            archive.addfile(info, io.BytesIO(bytes([i]) * info.size))
    assert everything(tmp_path / "mine.tar.gz") == {name: bytes([i]) * (5000 + i) for i, name in enumerate(names)}


def test_attributes_of_all_later_members_do_not_add_up(tmp_path, monkeypatch):
    kept, after = [], tarfile.TarFile.next

    def watched(self):
        kept.append((len(self.members), len(self.pax_headers or ())))
        return after(self)

    monkeypatch.setattr(tarfile.TarFile, "next", watched)
    entries = []
    for i in range(50):
        record = b" key%04d=%s\n" % (i, b"x" * 100)
        entries += [entry("x", b"%d" % (len(record) + 3) + record, type=tarfile.XGLTYPE), entry(f"train/ant/{i}.png", b"i")]
    assert len(everything(tar_of(tmp_path, *entries))) == 50
    assert len(kept) > 100
    assert max(kept) <= (1, 1)


@pytest.mark.parametrize("ending", ["tar", "zip"])
def test_folders_and_links_count_as_members(tmp_path, monkeypatch, ending):
    path = tmp_path / "mine.zip"
    if ending == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("a/", "b/", "c.png"):
                archive.writestr(name, b"")
    else:
        path = tar_of(tmp_path, entry("a", type=tarfile.DIRTYPE), entry("b", type=tarfile.SYMTYPE), entry("c.png"))
    assert archives.member_names(path) == ["c.png"]
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    with pytest.raises(UserError, match=f"mine.{ending} holds more than 2 files, folders and links: over the limit"):
        archives.member_names(path)


def test_a_damaged_header_is_not_the_end_of_a_tar(tmp_path):
    first, second, third = (entry(name, b"image") for name in NAMES)
    assert list(everything(tar_of(tmp_path, first, second, third))) == list(NAMES)
    for damaged in (b"x" + second[1:], second[:300]):
        path = tar_of(tmp_path, first, damaged, third)
        with pytest.raises(UserError, match="cannot read the archive .*mine.tar: no tar archive, or a damaged one"):
            archives.member_names(path)
    path = tmp_path / "mine.tar"
    path.write_bytes(first + second)  # some tools leave the mark at the end away
    assert list(everything(path)) == list(NAMES[:2])
    for end in (300, len(first) + 300, len(first) + 512, len(first) + 514):
        path.write_bytes((first + second)[:end])
        with pytest.raises(UserError, match="cannot read .*mine.tar: (no tar archive, or a damaged one|unexpected end)"):
            everything(path)


def test_a_tar_that_leads_back_to_its_start_ends(tmp_path):
    back = entry("x", b"14 size=-1024\n", type=tarfile.XHDTYPE)
    path = tar_of(tmp_path, entry(NAMES[0], b"image"), back, entry(NAMES[1]), entry(NAMES[2]))
    with pytest.raises(UserError, match="cannot read the archive .*mine.tar: "):
        archives.member_names(path)


def test_no_byte_of_a_tar_is_read_twice():
    tar = archives._Bounded(io.BytesIO(bytes(range(10))))
    assert tar.read(4) == bytes(range(4))
    tar.seek(6)
    with pytest.raises(tarfile.TarError, match="its members overlap"):
        tar.seek(5)


def test_a_member_is_whole_or_an_error():
    member = tarfile.TarInfo("a.png")
    member.size, member.offset_data = 4, 2
    assert archives._Bounded(io.BytesIO(bytes(range(6)))).content(member) == bytes(range(2, 6))
    with pytest.raises(tarfile.TarError, match="unexpected end of data"):
        archives._Bounded(io.BytesIO(bytes(range(5)))).content(member)


def test_a_sparse_file_is_no_image(tmp_path):
    header = checked(entry(NAMES[0], type=tarfile.GNUTYPE_SPARSE)[:483] + b"00000777777\0" + bytes(17))
    with pytest.raises(UserError, match="cannot read train/ant/0.png in .*mine.tar: it is stored as a sparse file"):
        everything(tar_of(tmp_path, header))


def test_a_zip_unpacks_no_more_than_it_says(tmp_path):
    path, size = tmp_path / "mine.zip", 100 * 2**20
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(NAMES[0], bytes(size))
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", size), struct.pack("<I", 1000)))
    tracemalloc.start()
    with pytest.raises(UserError, match="cannot read train/ant/0.png in .*mine.zip: .*CRC"):
        everything(path)
    assert tracemalloc.get_traced_memory()[1] < size / 10
    tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_of_another_method_is_refused(tmp_path, method):
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(NAMES[0], b"image")
    with pytest.raises(UserError, match="cannot read train/ant/0.png in .*mine.zip: it is packed by another method"):
        everything(path)


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "train" / "ant").mkdir(parents=True)
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("ant"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match="^cannot read .*train/ant: Permission denied$"):
        archives.member_names(tmp_path)


def test_a_link_is_no_image_whatever_it_is_called(tmp_path):
    """Files alone are listed; here a link comes after a file, under its name."""
    link = entry(NAMES[0], type=tarfile.SYMTYPE, linkname="elsewhere")
    path = tar_of(tmp_path, entry(NAMES[0], b"image"), link, entry(NAMES[1], b"image"))
    assert list(archives.members(path, NAMES)) == [(NAMES[0], b"image"), (NAMES[1], b"image")]
