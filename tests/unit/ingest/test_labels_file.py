import pytest

from pipeline.errors import UsageError
from pipeline.ingest.labels_file import BadLine, GivenLabel, read_labels

GOOD = [GivenLabel("cam/1.jpg", "cat"), GivenLabel("cam/2.jpg", "sea, sky")]


@pytest.mark.parametrize(
    "text",
    [
        'id,label\ncam/1.jpg,cat\ncam/2.jpg,"sea, sky"\n',
        '\ufefflabel,who,id\ncat,ann,cam/1.jpg\n"sea, sky",ann,cam/2.jpg\n',
        '{"id": "cam/1.jpg", "label": "cat"}\n\n{"label": "sea, sky", "id": "cam/2.jpg", "who": "ann"}\n',
    ],
)
def test_csv_and_json_lines_say_the_same(text: str) -> None:
    assert list(read_labels(text.splitlines(keepends=True))) == GOOD


def test_a_line_that_cannot_be_used_says_why_and_the_others_count() -> None:
    lines = [
        '{"id": "1", "label": "cat"}',
        "{",
        '{"id": 7, "label": "cat"}',
        '{"id": "8"}',
        "[]",
        '{"id": "9", "label": ""}',
    ]
    found = list(read_labels(lines))
    assert found[0] == GivenLabel("1", "cat")
    bad = [line for line in found if isinstance(line, BadLine)]
    assert [line.line for line in bad] == [2, 3, 4, 5, 6]
    assert bad[1].why.startswith("id = 7: ")


def test_a_short_row_of_csv_is_a_bad_line() -> None:
    assert list(read_labels(["id,label\n", "1\n", "2,dog\n"])) == [
        BadLine(2, "label = None: write a text that is not empty"),
        GivenLabel("2", "dog"),
    ]


def test_csv_without_the_two_columns_is_refused_with_an_example() -> None:
    with pytest.raises(UsageError, match="names no column id and no column label; write `id,label` there"):
        list(read_labels(["name,class\n", "1,cat\n"]))


def test_an_empty_file_has_no_labels() -> None:
    assert list(read_labels(["\n", "  \n"])) == []
