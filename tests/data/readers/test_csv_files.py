"""Tables of cells: quotes, line breaks, delimiters, byte order marks."""

import csv
import io
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cl2cm.data.readers.csv_files import open_table, read_csv
from cl2cm.errors import DatasetError


def table(tmp_path, content, name="t.csv", delimiters=(",",)):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    opened = open_table(path, lambda names: "file" in names, delimiters)
    return opened.header, list(opened.rows)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_break_in_quotes_stays_a_break(tmp_path, end):
    text = f'file,caption{end}a,"on{end}the beach"{end}{end}b,"say ""go"""{end}'
    header, rows = table(tmp_path, text)
    assert header == ["file", "caption"]
    assert [(n, cells[1].split()) for n, cells in rows] == [
        (2, ["on", "the", "beach"]),
        (5, ["say", '"go"']),
    ]


def test_line_ends_of_old_macs(tmp_path):
    assert table(tmp_path, "file,caption\ra,x\rb,y\r")[1] == [(2, ["a", "x"]), (3, ["b", "y"])]


def test_a_mark_before_a_quoted_header(tmp_path):
    for name, mark in (("t.csv", ","), ("t.tsv", "\t")):
        text = f'\ufeff"file"{mark}"caption"\na{mark}x\n'
        assert table(tmp_path, text, name, (mark,)) == (["file", "caption"], [(2, ["a", "x"])])
    (tmp_path / "t.csv").write_text('\ufeff"file","caption"\na,x\n', encoding="utf-8")
    assert list(read_csv(tmp_path / "t.csv", ("file",))) == [(2, {"file": "a", "caption": "x"})]


LITERAL = [
    ('a\t"Stop sign\nb\tgo\nc\tsay go"\n', ['"Stop sign', "go", 'say go"']),
    ('a\t"Stop" sign\n', ['"Stop" sign']),
    ('a\t"on\nthe beach"\nb\tx\n', ["on\nthe beach", "x"]),
    ('a\t"say ""go"""\n', ['say "go"']),
    ('a\t"one\ttwo"\n', ["one\ttwo"]),
    ('a\t"\n', ['"']),
    ('a\t"x\nb\t"y\n', ['"x', '"y']),
    ('"a\tb"\n', ['b"']),
]


@pytest.mark.parametrize(("text", "captions"), LITERAL)
@pytest.mark.parametrize("delimiter", ["\t", "|"])
def test_a_quote_counts_only_around_a_whole_cell(tmp_path, text, captions, delimiter):
    content = f"file\tcaption\n{text}".replace("\t", delimiter)
    _, rows = table(tmp_path, content, "t.tsv", (delimiter,))
    assert [cells[1] for _, cells in rows] == [c.replace("\t", delimiter) for c in captions]


def test_the_delimiter_is_the_one_whose_header_fits(tmp_path):
    for delimiter in ",;|\t":
        text = f"file{delimiter} caption\na{delimiter}x, y; z\n".replace(",", delimiter, 0)
        header, _ = table(tmp_path, text.split("\n")[0] + "\n", "t.csv", tuple(",;|\t"))
        assert header == ["file", "caption"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    rows=st.lists(st.tuples(*[st.text(st.sampled_from('ab",\n;|é '), min_size=1)] * 2), max_size=6),
    delimiter=st.sampled_from(",;"),
)
def test_what_csv_writes_is_read_back(tmp_path, rows, delimiter):
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(rows)
    _, found = table(tmp_path, f"file{delimiter}caption\n{file.getvalue()}", "t.csv", (delimiter,))
    wanted = [[cell.strip() for cell in row] for row in rows]
    assert [cells for _, cells in found] == [row for row in wanted if any(row)]


def test_a_table_of_another_kind(tmp_path):
    for content in ("file,caption,caption\n", 'file,caption\na,"x" y\n', b"file,caption\na,\xff\n"):
        with pytest.raises(DatasetError, match=r"t\.csv:[12]"):
            table(tmp_path, content)


@pytest.mark.parametrize("line", ['"' + "x" * 60, 'y"\t"' + "x" * 60])
def test_quotes_that_nothing_closes_cost_linear_time(tmp_path, line):
    begin = time.process_time()
    with pytest.raises(DatasetError, match=r"t\.csv:\d+: expected quotes that end in their cell"):
        table(tmp_path, "file\tcaption\tmore\tthan\n" + f"{line}\n" * 600, delimiters=("\t",))
    assert time.process_time() - begin < 3


def test_a_long_cell_over_many_lines_is_read(tmp_path):
    text = "\n".join(f'line "{n}" of it' for n in range(900))
    rows = "".join(f'{name}\t"{text.replace(chr(34), chr(34) * 2)}"\n' for name in "abc")
    assert table(tmp_path, "file\tcaption\n" + rows, delimiters=("\t",))[1] == [
        (2 + 900 * n, [name, text]) for n, name in enumerate("abc")
    ]
