"""Corpora from a package, a JSONL file and a folder, and the chunks that documents are cut into."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.base.errors import DataError, FileRuleError
from llmlab.bundle.bundle import Chunking, CorpusRef
from llmlab.search.corpus import Corpus, Document, chunked


@pytest.fixture(scope="module")
def pandas_corpus() -> Corpus:
    return Corpus.from_package("pandas")


def test_the_corpus_of_pandas_holds_functions_methods_and_accessors(pandas_corpus: Corpus) -> None:
    wanted = ["read_csv", "DataFrame.dropna", "Series.str.contains", "Series.dt.year", "Series.cat.codes"]
    wanted += ["DataFrame.plot.bar", "api.typing.DataFrameGroupBy.transform", "api.typing.Rolling.mean"]
    assert [name for name in wanted if name not in pandas_corpus] == []
    assert len(pandas_corpus) > 900
    assert pandas_corpus["DataFrame.dropna"].group == "dropna"
    assert pandas_corpus["DataFrame.dropna"].text.startswith("Remove missing values.")


def test_names_that_share_a_text_are_one_document_with_aliases(pandas_corpus: Corpus) -> None:
    texts = [document.text for document in pandas_corpus]
    assert len(set(texts)) == len(texts)
    assert pandas_corpus["isnull"] is pandas_corpus["isna"]
    assert pandas_corpus["isna"].id == "isna"
    assert pandas_corpus["Index.str.contains"].id == "Series.str.contains"


def test_no_name_is_private_and_no_text_is_empty(pandas_corpus: Corpus) -> None:
    assert not [name for name in pandas_corpus.by_id if any(part.startswith("_") for part in name.split("."))]
    assert all(document.text.strip() for document in pandas_corpus)


def test_a_package_is_read_once_per_process() -> None:
    assert Corpus.from_package("pandas") is Corpus.from_package("pandas")


@pytest.mark.slow
def test_another_process_gets_the_same_digest(pandas_corpus: Corpus) -> None:
    program = "from llmlab.search.corpus import Corpus; import sys; "
    program += "sys.stdout.write(Corpus.from_package('pandas').digest)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == pandas_corpus.digest


def test_other_packages_can_be_read_too() -> None:
    corpus = Corpus.from_package("json")
    assert "JSONDecoder.decode" in corpus
    assert "dumps" in corpus


def test_a_missing_package_is_named() -> None:
    with pytest.raises(DataError, match="no_such_package_here"):
        Corpus.from_package("no_such_package_here")


def test_jsonl_documents_keep_their_order_and_default_to_their_own_group(tmp_path: Path) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_text('{"id": "b", "text": "two", "title": "T"}\n\n{"id": "a", "text": "one", "group": "g"}\n')
    corpus = Corpus.from_jsonl(path)
    assert [(d.id, d.title, d.group) for d in corpus] == [("b", "T", "b"), ("a", "", "g")]
    assert corpus.name == "docs"


@pytest.mark.parametrize(
    ("second_line", "rule"),
    [
        ('{"id": "a", "text": "x"}', "duplicate id 'a' .first on line 1"),
        ('{"id": "b", "text": " "}', "text == ' '"),
        ('{"id": 3, "text": "x"}', "id == 3"),
        ('{"id": "b", "text": "x", "url": "u"}', "unknown key 'url'"),
        ('{"id": "b"', "not a whole JSON object"),
        ('["b"]', "must be a JSON object"),
    ],
)
def test_a_broken_line_is_refused_with_its_number(tmp_path: Path, second_line: str, rule: str) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_text('{"id": "a", "text": "one"}\n' + second_line + "\n")
    with pytest.raises(FileRuleError, match=rule) as caught:
        Corpus.from_jsonl(path)
    assert caught.value.line == 2


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").write_text("\n")
    with pytest.raises(FileRuleError, match="no documents"):
        Corpus.from_jsonl(tmp_path / "docs.jsonl")


def test_a_folder_gives_one_document_per_markdown_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.md").write_text("# Second\ntext")
    (tmp_path / "sub" / "a.md").write_text("no heading")
    (tmp_path / "empty.md").write_text("")
    (tmp_path / "notes.txt").write_text("not read")
    assert [(d.id, d.title) for d in Corpus.from_folder(tmp_path)] == [("b.md", "Second"), ("sub/a.md", "a")]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path, kind: str) -> None:
    inside, outside = tmp_path / "docs", tmp_path / "secret"
    inside.mkdir()
    outside.mkdir()
    (inside / "a.md").write_text("fine")
    (outside / "s.md").write_text("secret")
    (inside / "link.md").symlink_to(outside / "s.md" if kind == "file" else outside)
    with pytest.raises(FileRuleError, match="leaves"):
        Corpus.from_folder(inside)


def test_a_link_within_the_folder_adds_no_second_document(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("text")
    (tmp_path / "b.md").symlink_to(tmp_path / "a.md")
    assert [d.id for d in Corpus.from_folder(tmp_path)] == ["a.md"]


@pytest.mark.parametrize("given", ["../docs.jsonl", "/etc/hosts", "a/../../docs.jsonl"])
def test_a_path_of_a_bundle_may_not_leave_its_base(tmp_path: Path, given: str) -> None:
    with pytest.raises(ValueError, match="leaves"):
        Corpus.load(CorpusRef(jsonl=given), base=tmp_path)


def test_each_kind_of_reference_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"id": "a", "text": "one"}\n')
    (tmp_path / "a.md").write_text("text")
    assert Corpus.load(CorpusRef(jsonl="d.jsonl"), base=tmp_path).documents[0].id == "a"
    assert Corpus.load(CorpusRef(folder="."), base=tmp_path).documents[0].id == "a.md"
    assert Corpus.load(CorpusRef(package="json"), base=tmp_path).name == "json"


def test_the_digest_changes_with_the_content_and_not_with_the_name() -> None:
    one = Corpus(documents=(Document(id="a", text="x"),), name="n")
    assert one.digest == Corpus(documents=(Document(id="a", text="x"),), name="m").digest
    assert one.digest != Corpus(documents=(Document(id="a", text="y"),)).digest


def test_ids_and_aliases_are_unique_together() -> None:
    with pytest.raises(ValueError, match="'a' twice"):
        Corpus(documents=(Document(id="a", text="x"), Document(id="b", text="y", aliases=("a",))))


def test_without_chunking_a_document_is_one_chunk() -> None:
    (chunk,) = chunked([Document(id="d", text="a b", title="t", group="g")])
    assert (chunk.doc_id, chunk.position, chunk.text, chunk.title, chunk.group) == ("d", 0, "a b", "t", "g")


@settings(max_examples=60)
@given(n=st.integers(1, 200), size=st.integers(10, 40), overlap=st.integers(0, 9))
def test_every_word_is_in_a_chunk_and_neighbours_share_the_overlap(n: int, size: int, overlap: int) -> None:
    text = " ".join(f"w{i}" for i in range(n))
    pieces = [
        c.text.split() for c in chunked([Document(id="d", text=text)], Chunking(size_words=size, overlap_words=overlap))
    ]
    assert all(len(piece) <= size for piece in pieces)
    rebuilt = pieces[0] + [word for piece in pieces[1:] for word in piece[overlap:]]
    assert rebuilt == text.split()
    assert all(a[-overlap:] == b[:overlap] for a, b in pairwise(pieces) if overlap)


def test_headings_begin_a_chunk_in_markdown_and_in_docstrings() -> None:
    text = "Intro.\n\n# One\nfirst part\n\nReturns\n-------\nsecond part"
    pieces = chunked([Document(id="d", text=text)], Chunking(size_words=50, by_heading=True))
    assert [piece.text.split()[0] for piece in pieces] == ["Intro.", "#", "Returns"]
    assert [piece.position for piece in pieces] == [0, 1, 2]


def test_line_breaks_inside_a_chunk_are_kept() -> None:
    (piece,) = chunked([Document(id="d", text="a\n  b\n")], Chunking(size_words=10))
    assert piece.text == "a\n  b"
