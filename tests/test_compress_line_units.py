"""Logs, diffs, code, hits and tables, cut into what is kept or dropped whole."""

import pytest
from driving import examples, segment
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress.line_units import (
    are_hits,
    code_documents,
    diff_documents,
    is_import,
    log_entries,
    search_documents,
    table_rows,
)
from proxy.compress.units import lay_out
from proxy.types import Kind

LINES = (
    "2024-01-05 10:00:01 INFO up",
    "10:00:02 ERROR boom",
    "Traceback (most recent call last):",
    '  File "a.py", line 3, in f',
    "ValueError: no",
    "diff --git a/x.py b/x.py",
    "--- a/x.py",
    "+++ b/x.py",
    "@@ -1,2 +1,2 @@ def f():",
    "-old",
    "+new",
    " same",
    "\\ No newline at end of file",
    "commit 0123456789",
    "src/a.py:3:x = 1",
    "src/a.py-4-y = 2",
    "--",
    "import os",
    "class Ship:",
    "    def sail(self):",
    '        """Go.',
    "    }",
    "}",
    "@decorated",
    "// said before",
    "a,b,c",
    '1,"two',
    "|---|---|",
    "",
    "\t",
    "\u2003x",
)
texts = st.lists(st.one_of(st.sampled_from(LINES), st.text(max_size=6)), max_size=16).map("\n".join)
KINDS = [Kind.LOG, Kind.DIFF, Kind.CODE, Kind.SEARCH, Kind.TABLE]


def written(documents, text):
    """Units by document, frames in brackets."""
    return [
        [f"<{part.span.of(text)}>" if part.frame else part.span.of(text) for part in parts]
        for parts in documents
    ]


@examples(200)
@given(texts, st.sampled_from(KINDS))
def test_units_are_whole_lines(text, kind):
    for unit in lay_out(segment(text, kind), 0, 0).units:
        before = text[: unit.span.start].rpartition("\n")[2]
        after = text[unit.span.end :].partition("\n")[0]
        assert not before.strip()
        assert not after.strip()


# Logs


def test_a_stack_trace_goes_with_the_entry_that_it_explains():
    entries = [
        "2024-01-05 10:00:01 INFO up",
        """2024-01-05 10:00:02 ERROR boom
Traceback (most recent call last):
  File "a.py", line 3, in f
    g()
ValueError: no""",
        "2024-01-05 10:00:03 INFO still up",
    ]
    text = "\n".join(entries)
    assert [span.of(text) for span in log_entries(text)] == entries


def test_without_times_each_line_is_an_entry_but_for_traces():
    entries = [
        "building",
        'Exception in thread "main" E\n    at a.b(C.java:1)\nCaused by: F',
        "done",
    ]
    text = "\n".join(entries)
    assert [span.of(text) for span in log_entries(text)] == entries


def test_an_entry_does_not_grow_without_end():
    text = "\n".join(["10:00:01 INFO a", *["  more of it" * 20] * 40, "10:00:02 INFO b"])
    assert max(span.end - span.start for span in log_entries(text)) <= 4_300


# Diffs

DIFF = """commit 0123456789abcdef
Author: Ada

    Raise the limit

diff --git a/x.py b/x.py
index 1..2 100644
--- a/x.py
+++ b/x.py
@@ -1,3 +1,3 @@ def f():
 a
---- no header
+b

@@ -9 +9,2 @@
 c
+d
diff --git a/logo.png b/logo.png
Binary files a/logo.png and b/logo.png differ
Index: old.txt
--- old.txt
+++ new.txt
@@ -1 +1 @@
-x
+y
\\ No newline at end of file"""


def test_a_diff_is_files_of_whole_hunks():
    assert written(diff_documents(DIFF), DIFF) == [
        ["commit 0123456789abcdef\nAuthor: Ada\n\n    Raise the limit"],
        [
            "<diff --git a/x.py b/x.py\nindex 1..2 100644\n--- a/x.py\n+++ b/x.py>",
            "@@ -1,3 +1,3 @@ def f():\n a\n---- no header\n+b\n",
            "@@ -9 +9,2 @@\n c\n+d",
        ],
        ["diff --git a/logo.png b/logo.png\nBinary files a/logo.png and b/logo.png differ"],
        [
            "<Index: old.txt\n--- old.txt\n+++ new.txt>",
            "@@ -1 +1 @@\n-x\n+y\n\\ No newline at end of file",
        ],
    ]


# Hits


def test_hits_are_grouped_by_file():
    text = "a/x.py:1:one\na/x.py:7:two\nb.py:3:three"
    assert written(search_documents(text), text) == [
        ["a/x.py:1:one", "a/x.py:7:two"],
        ["b.py:3:three"],
    ]


def test_lines_around_a_hit_are_part_of_it():
    text = "a.py-1-x\na.py:2:hit\na.py-3-y\n--\na.py:9:hit\na.py-10-z"
    assert written(search_documents(text), text) == [
        ["a.py-1-x\na.py:2:hit\na.py-3-y", "a.py:9:hit\na.py-10-z"]
    ]


def test_a_path_on_a_line_of_its_own_frames_its_hits():
    text = "src/a.py\n3:one\n9:two\n\nsrc/b.py\n1:three"
    assert written(search_documents(text), text) == [
        ["<src/a.py>", "3:one", "9:two"],
        ["<src/b.py>", "1:three"],
    ]


def test_results_of_several_lines_are_whole():
    results = [f"{i}. Title {i}\nhttps://example.org/{i}\nWhat it says. All of it." for i in (1, 2)]
    text = "\n\n".join(results)
    assert not are_hits(text)
    assert [u.span.of(text) for u in lay_out(segment(text, Kind.SEARCH), 0, 0).units] == results


# Code

PYTHON = '''import os
from sys import path

LIMIT = 3
RATE = 2


# Says what it does.
@cached(
    size=3,
)
def f(x):
    """One.

text at the margin
    """
    if x:
        return 1

    return 2


def g():
    pass'''


def test_a_function_is_whole_with_what_introduces_it():
    assert [parts[0].span.of(PYTHON) for parts in code_documents(PYTHON)] == [
        "import os\nfrom sys import path",
        "LIMIT = 3\nRATE = 2",
        PYTHON[PYTHON.index("# Says") : PYTHON.index("\n\n\ndef g")],
        "def g():\n    pass",
    ]


BRACES = {
    "js": [
        "import a from 'a'",
        "export function f(x) {\n  return x;\n}",
        "const g = () => {\n  f();\n};",
    ],
    "go": ["package a", 'import (\n\t"fmt"\n)', "func f() int {\n\treturn 1\n}"],
    "c": ["#include <a.h>", "int f(void)\n{\n  return 1;\n}", "static int x = 1;"],
    "ruby": ["require 'a'", "def f\n  1\nend", "def g\n  2\nend"],
}


@pytest.mark.parametrize("language", BRACES)
def test_a_definition_ends_with_what_closes_it(language):
    text = "\n\n".join(BRACES[language])
    assert [parts[0].span.of(text) for parts in code_documents(text)] == BRACES[language]


def test_a_long_class_is_its_members_within_its_heading_and_its_end():
    methods = [
        f"    @Override\n    public int m{i}() {{\n{'        call();' * 30}\n    }}"
        for i in range(3)
    ]
    text = "package a;\n\npublic class Ship extends Boat {\n" + "\n\n".join(methods) + "\n}\n"
    assert written(code_documents(text), text) == [
        ["package a;"],
        ["<public class Ship extends Boat {>", *methods, "<}>"],
    ]


def test_a_brace_on_a_line_of_its_own_belongs_to_the_heading():
    methods = [f"  int m{i}() {{\n{'    call();' * 70}\n  }}" for i in range(2)]
    text = "class Ship\n{\n" + "\n\n".join(methods) + "\n}"
    assert written(code_documents(text), text) == [["<class Ship\n{>", *methods, "<}>"]]


def test_a_long_class_of_one_member_is_whole():
    text = f"class Ship:\n    def sail(self):\n{'        call()' * 100}"
    assert written(code_documents(text), text) == [[text]]


def test_a_long_class_needs_nothing_to_close_it():
    methods = [f"    def m{i}(self):\n{'        call()' * 60}" for i in range(2)]
    text = "class Ship:\n" + "\n\n".join(methods)
    assert written(code_documents(text), text) == [["<class Ship:>", *methods]]


def test_line_numbers_are_seen_through():
    code = ["import os", "", "def f():", "    return 1", "", "def g():", "    pass"]
    text = "\n".join(f"  {number}\t{line}" for number, line in enumerate(code, 1))
    assert [parts[0].span.of(text) for parts in code_documents(text)] == [
        "  1\timport os\n  2",
        "  3\tdef f():\n  4\t    return 1\n  5",
        "  6\tdef g():\n  7\t    pass",
    ]


def test_numbered_blank_lines_part_nothing():
    code = ["import os", "", "def f():", "", "    return 1"]
    text = "\n".join(f" {number}: {line}" for number, line in enumerate(code, 1))
    expected = [" 1: import os", " 3: def f():\n 4: \n 5:     return 1"]
    assert [parts[0].span.of(text) for parts in code_documents(text)] == expected


def test_comments_without_end_are_read_once():
    text = "# said\n" * 40_000 + "x = 1"
    assert [len(parts) for parts in code_documents(text)] == [1]


@pytest.mark.parametrize(
    ("unit", "wanted"),
    [("import os", True), ("  3\tfrom a import b", True), ("#include <a>", True), ("x = 1", False)],
)
def test_imports_are_known(unit, wanted):
    assert is_import(unit) is wanted


# Tables


def test_a_row_goes_on_while_a_cell_is_quoted():
    text = 'id,note\n1,"two\nlines, ""x"""\n2,5" pipe\n3,x'
    assert written([list(table_rows(text))], text) == [
        ["<id,note>", '1,"two\nlines, ""x"""', '2,5" pipe', "3,x"]
    ]


def test_rules_frame_the_rows():
    text = "+---+\n| a |\n+---+\n| 1 |\n| 2 |\n+---+"
    assert written([list(table_rows(text))], text) == [
        ["<+---+>", "<| a |>", "<+---+>", "| 1 |", "| 2 |", "<+---+>"]
    ]
