"""Names of columns, as the field writes them."""

import pytest

from cl2cm.data.readers.columns import find_columns, missing, parse_columns
from cl2cm.errors import ConfigError, DatasetError


def found(*names, **chosen):
    return find_columns(names, chosen, "t.csv:1")


@pytest.mark.parametrize(
    ("names", "file", "captions"),
    [
        (("file", "caption"), "file", {"caption": ""}),
        (("filepath", "title"), "filepath", {"title": ""}),
        (("file_name", "text"), "file_name", {"text": ""}),
        (("image", "caption"), "image", {"caption": ""}),
        (("Image Name", "Caption"), "Image Name", {"Caption": ""}),
        (("image_name", "comment_number", "comment"), "image_name", {"comment": ""}),
        (("image", *(f"caption_{n}" for n in range(5))), "image",
         {f"caption_{n}": "" for n in range(5)}),
        (("image", "caption1", "caption2"), "image", {"caption1": "", "caption2": ""}),
        (("file", "caption", "caption_de", "caption_zh-Hans"), "file",
         {"caption": "", "caption_de": "de", "caption_zh-Hans": "zh-Hans"}),
        (("file", "caption_en", "caption_id"), "file", {"caption_en": "en", "caption_id": "id"}),
        (("file", "caption", "caption_id"), "file", {"caption": ""}),
        (("file", "caption_id", "caption"), "file", {"caption": ""}),
        (("file", "caption_de_1", "caption_de_2"), "file",
         {"caption_de_1": "de", "caption_de_2": "de"}),
        (("path", "title", "caption"), "path", {"caption": ""}),
        (("video_path", "sentences"), "video_path", {"sentences": ""}),
    ],
)  # fmt: skip
def test_names_of_the_field(names, file, captions):
    columns = found(*names)
    assert (columns.file, columns.captions) == (file, captions)
    assert set(columns.unread) == set(names) - {file, *captions}
    assert missing(names, columns) is None


def test_columns_that_the_user_names():
    columns = found("foto", "text", "sprache", "x", **parse_columns("file=foto, language=sprache"))
    assert (columns.file, columns.language, columns.captions) == ("foto", "sprache", {"text": ""})
    assert found("a", "b", "caption", file="a", caption="b").captions == {"b": ""}
    with pytest.raises(DatasetError, match=r"expected a column 'c' for caption.*correct --columns"):
        found("a", "b", file="a", caption="c")


@pytest.mark.parametrize("text", ["file", "photo=a", "file=", "file=a,file=b"])
def test_an_option_that_does_not_fit(text):
    with pytest.raises(ConfigError, match=r"ROLE=COLUMN.*write for example"):
        parse_columns(text)


def test_two_columns_of_files_are_not_guessed():
    with pytest.raises(DatasetError, match=r"filename,path.*--columns file=NAME"):
        found("filename", "path", "caption")
    assert found("file", "path", "caption").file == "file"
    assert "no column of files" in missing(["a"], found("a"))
    assert "no column of captions" in missing(["file"], found("file"))
