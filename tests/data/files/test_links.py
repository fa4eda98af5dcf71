"""Links in archives: they are the member that they lead to, whatever they lead over; nothing outside is ever read."""

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fewlabels.data.files import archives
from fewlabels.data.sources import open_data
from fewlabels.types import UserError
from tests.conftest import png

HARD, SOFT = tarfile.LNKTYPE, tarfile.SYMTYPE


def image(number: int) -> bytes:
    return png(np.full((4, 4, 3), number, np.uint8))


# The same images as files of a folder, so that both ways to pack them can be held against it.
PLAIN = {
    f"{part}/{cls}/{i}.png": image(10 * c + i) for part in ("train", "test") for c, cls in enumerate("abc") for i in (1, 2)
}


def tar_of(path: Path, *members: tuple[str, bytes | tuple[bytes, str]]) -> Path:
    """Files by their bytes, links by their kind and target."""
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, what in members:
            info = tarfile.TarInfo(name)
            if isinstance(what, bytes):
                info.size = len(what)
                archive.addfile(info, io.BytesIO(what))
            else:
                info.type, info.linkname = what
                archive.addfile(info)
    return path


def zip_of(path: Path, *members: tuple[str, bytes | tuple[bytes, str]]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, what in members:
            info = zipfile.ZipInfo(name)
            if not isinstance(what, bytes):
                info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
                what = what[1].encode()
            archive.writestr(info, what)
    return path


makers = pytest.mark.parametrize("make", [tar_of, zip_of])


def opened(path: Path, tmp_path: Path):
    return open_data("mine", "folder", path, tmp_path / "cache")


@pytest.fixture
def plain(tmp_path) -> str:
    return opened(tar_of(tmp_path / "plain.tar", *PLAIN.items()), tmp_path).digest


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_hard_links_are_the_files_that_they_share(tmp_path, plain, ending):
    """As tar packs a folder where the test images, or all, are hard links to a pool."""
    pool = [(f"pool/{name.replace('/', '_')}", content) for name, content in PLAIN.items()]
    links = [(name, (HARD, f"pool/{name.replace('/', '_')}")) for name in PLAIN]
    assert opened(tar_of(tmp_path / f"all.{ending}", *pool, *links), tmp_path).digest == plain
    some = [
        (name, content) if "train" in name else (name, (HARD, name.replace("test", "train")))
        for name, content in PLAIN.items()
    ]
    data = opened(tar_of(tmp_path / f"some.{ending}", *some), tmp_path)
    assert data.digest == plain
    assert "left out" not in data.notes.get("data.images", "")


def test_a_hard_link_to_a_link_to_a_link_is_followed(tmp_path, plain):
    first, *rest = PLAIN.items()
    chain = [("x", first[1]), ("y", (HARD, "./x")), ("z", (HARD, "y")), (first[0], (HARD, "z"))]
    assert opened(tar_of(tmp_path / "m.tar", *chain, *rest), tmp_path).digest == plain


def test_a_file_that_tar_was_given_twice_is_itself(tmp_path, plain):
    twice = [(name, (HARD, f"./{name}")) for name in PLAIN]
    assert opened(tar_of(tmp_path / "m.tar", *PLAIN.items(), *twice), tmp_path).digest == plain


@makers
def test_linked_files_are_followed_in_and_out_of_folders(tmp_path, plain, make):
    pool = [(f"pool/{name.replace('/', '_')}", content) for name, content in PLAIN.items()]
    links = [(name, (SOFT, f"../../pool/{name.replace('/', '_')}")) for name in PLAIN]
    for order in ([*pool, *links], [*links, *pool]):  # a link may stand before what it leads to
        path = make(tmp_path / f"m{len(list(tmp_path.iterdir()))}.{make.__name__[:3]}", *order)
        assert opened(path, tmp_path).digest == plain


@makers
def test_linked_class_folders_are_followed(tmp_path, plain, make):
    moved = [(name.replace("train/c/", "pool/inner/"), content) for name, content in PLAIN.items()]
    for target in ("../pool/inner", "./../pool/./inner/", "../also/inner", "../pool/back"):
        extra = [("also", (SOFT, "pool")), ("pool/back", (SOFT, "inner"))]
        path = make(tmp_path / f"{len(target)}.{make.__name__[:3]}", *moved, *extra, ("train/c", (SOFT, target)))
        assert opened(path, tmp_path).digest == plain


@makers
def test_a_linked_part_is_followed(tmp_path, make):
    path = make(
        tmp_path / f"m.{make.__name__[:3]}", *((n, c) for n, c in PLAIN.items() if "train" in n), ("test", (SOFT, "train"))
    )
    assert opened(path, tmp_path).test.labels.tolist() == [0, 0, 1, 1, 2, 2]


@makers
def test_a_link_to_a_hidden_store_is_followed(tmp_path, plain, make):
    """As annex and other stores keep large files."""
    pool = [(f".store/{name.replace('/', '_')}", content) for name, content in PLAIN.items()]
    links = [(name, (SOFT, f"../../.store/{name.replace('/', '_')}")) for name in PLAIN]
    data = opened(make(tmp_path / f"m.{make.__name__[:3]}", *pool, *links), tmp_path)
    assert data.digest == plain
    assert "left out: 1 hidden or system file or folder (.store)" in data.notes["data.images"]


@makers
def test_what_a_link_leads_to_tells_its_format(tmp_path, plain, make):
    pool = [(f"pool/{name.replace('/', '_')}", content) for name, content in PLAIN.items()]
    links = [(name.removesuffix(".png"), (SOFT, f"../../pool/{name.replace('/', '_')}")) for name in PLAIN]
    assert opened(make(tmp_path / f"m.{make.__name__[:3]}", *pool, *links), tmp_path).digest == plain


@makers
@pytest.mark.parametrize("target", ["/etc", "/", "../..", "../../../other", "../pool/../../x"])
@pytest.mark.parametrize("name", ["train/d", "test/a/9.png", "train"])
def test_links_that_lead_outside_are_refused_with_their_number(tmp_path, make, target, name):
    if name == "test/a/9.png":
        target = f"../{target}" if target.startswith(".") else f"{target}/9.png"
    path = make(tmp_path / f"m.{make.__name__[:3]}", *PLAIN.items(), ("pool/x", b""), (f"{name}", (SOFT, target)))
    with pytest.raises(
        UserError, match=r"m\.\w+ (has 1 link that leads outside of the archive|holds no images at train)"
    ) as error:
        opened(path, tmp_path)
    assert "the images are not in it. Pack what they lead to" in str(error.value) or name == "train"


def test_a_link_outside_that_is_no_image_is_counted(tmp_path):
    data = opened(tar_of(tmp_path / "m.tar", *PLAIN.items(), ("README", (SOFT, "/usr/share/doc"))), tmp_path)
    assert "left out: 1 link that leads outside of the archive (README)" in data.notes["data.images"]


@makers
def test_links_that_lead_nowhere_or_round_in_circles_are_counted(tmp_path, make):
    links = [
        ("train/a/7.png", (SOFT, "gone.png")),
        ("train/a/8.png", (SOFT, "1.png/inner")),
        ("train/a/9.png", (SOFT, "9.png")),
        ("train/a/x", (SOFT, "y")),
        ("train/a/y", (SOFT, "x")),
        ("train/a/up", (SOFT, "../..")),
    ]
    path = make(tmp_path / f"m.{make.__name__[:3]}", *PLAIN.items(), *links)
    line = opened(path, tmp_path).notes["data.images"]
    assert line.startswith(f"{path.name}: 12 images in 3 classes taken; left out: ")
    assert "2 dangling links (train/a/7.png, train/a/8.png)" in line
    assert "4 links that lead in a circle (train/a/" in line


def test_a_hard_link_to_nothing_is_counted(tmp_path):
    data = opened(tar_of(tmp_path / "m.tar", *PLAIN.items(), ("train/a/9.png", (HARD, "train/a/gone.png"))), tmp_path)
    assert "left out: 1 dangling link (train/a/9.png)" in data.notes["data.images"]


@makers
def test_links_that_lead_to_any_number_of_files_end(tmp_path, make, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1000)
    bomb = [(f"train/b{level}/{side}", (SOFT, f"../b{level + 1}")) for level in range(30) for side in "lr"]
    path = make(tmp_path / f"m.{make.__name__[:3]}", *PLAIN.items(), *bomb)
    with pytest.raises(UserError, match="the links in .* lead to more than 1,000 files and folders: over the limit"):
        opened(path, tmp_path)


def test_of_members_with_one_name_the_last_counts(tmp_path, plain):
    name, content = next(iter(PLAIN.items()))
    rest = list(PLAIN.items())[1:]
    for members in (
        [(name, image(99)), ("x.png", content), (name, (SOFT, "../../x.png")), *rest],
        [(name, (SOFT, "nowhere")), ("x", (SOFT, "y")), (name, content), *rest],
        [(name, image(99)), ("x.png", content), (name, (HARD, "x.png")), *rest],
        [("x.png", content), (name, image(99)), (name, (SOFT, "../../x.png")), *rest],
    ):
        path = tar_of(tmp_path / f"{len(list(tmp_path.iterdir()))}.tar", *members)
        assert opened(path, tmp_path).digest == plain


def test_a_folder_and_its_tar_have_the_same_images(tmp_path):
    """Whatever it is linked by."""
    root = tmp_path / "photos"
    for name, content in PLAIN.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "train" / "a" / "3.png").hardlink_to(root / "train" / "b" / "1.png")
    (root / "train" / "a" / "4.png").symlink_to("../c/1.png")
    (root / "train" / "d").symlink_to("c")
    (root / "test" / "d").symlink_to("../train/d")
    with tarfile.open(tmp_path / "photos.tar.gz", "w:gz") as archive:
        archive.add(root, "photos")
    folder, packed = opened(root, tmp_path), opened(tmp_path / "photos.tar.gz", tmp_path)
    assert folder.classes == ("a", "b", "c", "d")
    assert len(folder.train) == 10
    assert packed.digest == folder.digest
    assert packed.files == folder.files


def test_names_that_lead_upwards_are_counted_and_not_taken(tmp_path):
    path = tar_of(tmp_path / "m.tar", *PLAIN.items(), ("../train/a/9.png", image(9)), ("train/../train/b/9.png", image(9)))
    data = opened(path, tmp_path)
    assert len(data.train) == 6
    assert "left out: 2 names that lead outside of the archive (../train/a/9.png, " in data.notes["data.images"]
