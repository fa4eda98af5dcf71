"""What a list of images and their labels may look like, and what is no such list."""

import pytest

from fewlabels.data.files.label_file import Line, merged, read_labels
from fewlabels.types import UserError


def read(tmp_path, text, **options):
    (tmp_path / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_labels(tmp_path / "labels.csv", **options)


def refusal(tmp_path, text, **options) -> str:
    with pytest.raises(UserError) as told:
        read(tmp_path, text, **options)
    assert str(tmp_path / "labels.csv") in str(told.value)
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize("file", ["file", "filename", "file_name", "path", "image", "File_Name"])
@pytest.mark.parametrize("label", ["label", "class", "category", " LABEL "])
def test_the_columns_may_have_several_names_and_stand_anywhere(tmp_path, file, label):
    found = read(tmp_path, f"width,{label},{file},,colour\n9,ant,a.png,,red\n")
    assert found.lines == (Line("a.png", "ant", ""),)
    assert found.unread == ("width", "colour")


@pytest.mark.parametrize(
    "text",
    [
        "file,label\na.png,ant\nb.png,\n",
        "file,label\r\na.png,ant\r\nb.png,\r\n",
        "file;label\na.png;ant\nb.png;\n",
        "file\tlabel\na.png\tant\nb.png\n",
        '"file","label"\n\n"a.png"," ant "\n"b.png",""\n,\n',
        b"\xef\xbb\xbffile,label\na.png,ant\nb.png,",
        b"\xff\xfe" + "file\tlabel\r\na.png\tant\r\nb.png\t\r\n".encode("utf-16-le"),
        b"\xfe\xff" + "file,label\na.png,ant\nb.png,\n".encode("utf-16-be"),
    ],
)
def test_however_a_program_writes_it(tmp_path, text):
    assert read(tmp_path, text).lines == (Line("a.png", "ant", ""), Line("b.png", "", ""))


@pytest.mark.parametrize(
    ("split", "label", "part"),
    [
        ("", "ant", ""),
        ("train", "ant", "labelled"),
        ("train", "", "unlabelled"),
        ("Labelled", "ant", "labelled"),
        ("labeled", "ant", "labelled"),
        ("unlabelled", "ant", "unlabelled"),
        ("unlabeled", "", "unlabelled"),
        ("val", "ant", "validation"),
        ("validation", "ant", "validation"),
        ("TEST", "ant", "test"),
    ],
)
def test_what_an_image_is_for(tmp_path, split, label, part):
    assert read(tmp_path, f"file,label,split\na.png,{label},{split}\n").lines == (Line("a.png", label, part),)


@pytest.mark.parametrize("split", ["labelled", "val", "test"])
def test_what_needs_a_label(tmp_path, split):
    assert f"line 2, a.png, has split={split[:3]}" in refusal(tmp_path, f"file,label,split\na.png,,{split}\n")


def test_whole_numbers_that_were_written_as_fractions(tmp_path):
    assert [line.label for line in read(tmp_path, "file,label\na,1.0\nb,\nc,10.0\n").lines] == ["1", "", "10"]
    assert [line.label for line in read(tmp_path, "file,label\na,1.0\nb,1.5\n").lines] == ["1.0", "1.5"]


def test_an_accent_is_one_letter_and_other_bytes_are_names_as_well(tmp_path):
    found = read(tmp_path, "file,label\na.png,cafe\u0301\n".encode() + b"\xff.png,ant\n")
    assert [(line.file, line.label) for line in found.lines] == [("a.png", "caf\xe9"), ("\udcff.png", "ant")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: it needs a line file,label"),
        ("a.png,ant\n", "has no column file or filename or file_name or path or image: its first line is 'a.png,ant'"),
        ("file,text\na.png,ant\n", "has no column label or class or category: its first line is 'file,text'"),
        ("file,path,label\na,b,c\n", "has the columns file and path, which may mean the same"),
        ("file,label,Class\na,b,c\n", "has the columns label and Class, which may mean the same"),
        ("file,label\n,ant\n", "line 2 names no file"),
        ("file,label,split\na,ant,train\n\nb,ant,dev\n", "split=dev in line 4 is none of train, "),
        ("file,label\na.png,ant\nb.png,NaN\n", "label=NaN in line 3 may be a missing label: an empty one means none"),
        ("file,label\na.png,caf\xe9\n".encode("latin-1"), "label=caf\ufffd in line 2 is no text in UTF-8: save it as UTF-8"),
        ("file,label\na,ant\n".encode("utf-16-le"), "is no text in UTF-8: save it as UTF-8"),
        (b"PK\x03\x04\x14\x00\x06", "is no text in UTF-8: save it as UTF-8"),
        (b"\xff\xfea", "is no text, though it begins as UTF-16 does: save it as UTF-8"),
        ('file,label\n"' + "a" * 200_000, "is no CSV: field larger than field limit"),
    ],
)
def test_what_is_no_list(tmp_path, text, message):
    assert message in refusal(tmp_path, text)


def test_a_split_needs_no_labels(tmp_path):
    assert read(tmp_path, "file,label,split\na.png,nan,train\n", needs="split").lines == (Line("a.png", "nan", "train"),)


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="^cannot read .*labels.csv: No such file or directory$"):
        read_labels(tmp_path / "labels.csv")


def test_a_file_twice():
    ant = Line("a", "ant", "labelled")
    assert merged([("a", ant), ("a", ant)], "x.csv") == {"a": ant}
    with pytest.raises(UserError, match="^x.csv: a stands there twice, with label=ant and label=bee$"):
        merged([("a", ant), ("a", Line("./a", "bee", "labelled"))], "x.csv")
    with pytest.raises(UserError, match="^x.csv: a stands there twice, with split=labelled and split=test$"):
        merged([("a", ant), ("a", Line("a", "ant", "test"))], "x.csv")
