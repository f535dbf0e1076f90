"""The documents that answers are looked up in, from an installed package, a JSONL file or a folder of Markdown.

A corpus is a value: an ordered tuple of documents with a digest over their content. It is cut into chunks that know
their document, by size with overlap and at headings, and `index` indexes those; `freshness` compares two corpora, and
every result that was computed with one names its digest.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llmlab.base.cells import plain
from llmlab.base.documents import json_lines, read_text
from llmlab.base.errors import FileRuleError
from llmlab.base.project import inside_experiment, project_root
from llmlab.bundle.bundle import Chunking, CorpusRef
from llmlab.display.shown import Shown
from llmlab.search.docstrings import package_docstrings

_FIELDS = ("id", "text", "title", "group")
_MARKDOWN_HEADING = re.compile(r"^#{1,6}\s+\S.*$", re.MULTILINE)
_UNDERLINED_HEADING = re.compile(r"^\S.*\n[-=~^]{3,}[ \t]*$", re.MULTILINE)  # the sections of a numpy docstring


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Document(Shown):
    """One text that can be retrieved.

    Attributes:
        id: unique in its corpus; what judgements and citations name.
        title: what it is called; indexed with the text.
        group: documents of one group are variants of one thing (for a package: functions of one name).
        aliases: other ids of the same text.
    """

    id: str
    text: str
    title: str = ""
    group: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def short_hash(self) -> str:
        """16 hex characters of the text's sha256: what a manifest knows it by."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True, repr=False)
class Corpus(Shown):
    """Documents with unique ids in the order of their source, and a digest over their content.

    Reports call it by `name`, and by the `version` of the package that it was read from ("" for files).
    """

    documents: tuple[Document, ...]
    name: str = "corpus"
    version: str = ""

    def __post_init__(self) -> None:
        if not self.documents:
            raise ValueError(f"the corpus {self.name!r} has no documents")
        uses = Counter(name for document in self.documents for name in (document.id, *document.aliases))
        if twice := next((name for name, count in uses.items() if count > 1), None):
            raise ValueError(f"the corpus {self.name!r} has the id {twice!r} twice")

    @classmethod
    def load(cls, ref: CorpusRef, *, base: str | Path) -> Corpus:
        """The corpus that a bundle names. Its path is relative to `base`, the folder of the file that names it.

        Raises:
            ValueError: it leaves that folder (of an experiment's `bundles/`: the experiment).
        """
        if ref.package is not None:
            return cls.from_package(ref.package)
        if ref.jsonl is not None:
            return cls.from_jsonl(_inside(ref.jsonl, Path(base)))
        return cls.from_folder(_inside(ref.folder or "", Path(base)))

    @classmethod
    def from_package(cls, name: str) -> Corpus:
        """The docstrings of an installed package's public API, one document for each distinct text.

        Names that share a text are one document: its id is the name of fewest parts (of those, the one whose
        class has the most members, then the shortest), the others are its aliases. `group` is the last part of
        the name. Read once per process. DataError when the package is not installed or documents nothing.

        >>> corpus = Corpus.from_package("pandas")
        >>> corpus["DataFrame.dropna"].text.splitlines()[0]
        'Remove missing values.'
        >>> corpus["Index.str.contains"].id
        'Series.str.contains'
        """
        if name not in _PACKAGES:
            version, texts = package_docstrings(name)
            documents = tuple(
                Document(id=names[0], text=text, title=names[0], group=names[0].rpartition(".")[2], aliases=names[1:])
                for names, text in texts
            )
            _PACKAGES[name] = cls(documents=documents, name=name, version=version)
        return _PACKAGES[name]

    @classmethod
    def from_jsonl(cls, path: str | Path) -> Corpus:
        """Documents from JSONL: `{"id", "text"[, "title", "group"]}`; FileRuleError with file and line for else."""
        path = Path(path)
        by_id: dict[str, tuple[int, Document]] = {}
        for line, row in json_lines(path):
            document = _document(row, path, line)
            first, _ = by_id.setdefault(document.id, (line, document))
            if first != line:
                raise FileRuleError(f"duplicate id {document.id!r} (first on line {first})", path=path, line=line)
        if not by_id:
            raise FileRuleError("has no documents", path=path)
        return cls(documents=tuple(document for _, document in by_id.values()), name=path.stem)

    @classmethod
    def from_folder(cls, path: str | Path) -> Corpus:
        """Every Markdown file (`*.md`) below a folder, its id the path inside the folder, its title the first heading.

        A symbolic link that leaves the folder is refused (FileRuleError); one that stays inside names a file
        that is read anyway, and is passed over. So are empty files.
        """
        root = Path(path)
        documents = []
        for file in _markdown_files(root):
            if text := read_text(file).strip():
                name = file.relative_to(root).as_posix()
                heading = next((line.lstrip("#").strip() for line in text.splitlines() if line.startswith("#")), "")
                documents.append(Document(id=name, text=text, title=heading or file.stem, group=name))
        if not documents:
            raise FileRuleError("no Markdown text (*.md) in this folder", path=root)
        return cls(documents=tuple(documents), name=root.resolve().name)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) over the documents in their order: ids, texts, titles, groups and aliases."""
        content = hashlib.sha256()
        for document in self.documents:
            line = json.dumps(asdict(document), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
            content.update(line.encode("utf-8", "surrogatepass") + b"\n")
        return content.hexdigest()

    @cached_property
    def by_id(self) -> dict[str, Document]:
        """Documents by their id and by each alias."""
        return {name: document for document in self.documents for name in (document.id, *document.aliases)}

    def __getitem__(self, doc_id: str) -> Document:
        """The document with this id or alias; KeyError where there is none."""
        return self.by_id[doc_id]

    def __contains__(self, doc_id: object) -> bool:
        return doc_id in self.by_id

    def __iter__(self) -> Iterator[Document]:
        return iter(self.documents)

    def __len__(self) -> int:
        return len(self.documents)

    def __repr__(self) -> str:
        version = f" {self.version}" if self.version else ""
        return f"Corpus({plain(self.name)}{version}, {len(self):,} documents, digest={self.digest[:8]})"

    def _rows(self) -> list[dict[str, object]]:
        return [{"id": d.id, "text": d.text, "group": d.group, "aliases": d.aliases} for d in self.documents]

    def _sentence(self) -> str:
        names = len(self.by_id)
        return f"{self.name} {self.version}: {len(self):,} texts under {names:,} names, digest {self.digest[:8]}."


_PACKAGES: dict[str, Corpus] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of a document: its text as it stands there, and its position (0, 1, ...) in the document."""

    doc_id: str
    position: int
    text: str
    title: str = ""
    group: str = ""


def chunked(documents: Iterable[Document], chunking: Chunking | None = None) -> tuple[Chunk, ...]:
    """Every document as one chunk, or cut as `chunking` says; in the order of the documents.

    A chunk holds at most `size_words` words and begins with the last `overlap_words` of the one before it.
    With `by_heading` a heading (Markdown, or underlined as in docstrings) begins a new chunk, without overlap.

    >>> text = " ".join(f"w{i}" for i in range(25))
    >>> pieces = chunked([Document(id="d", text=text)], Chunking(size_words=10, overlap_words=2))
    >>> [(piece.position, piece.text.split()[0], piece.text.split()[-1]) for piece in pieces]
    [(0, 'w0', 'w9'), (1, 'w8', 'w17'), (2, 'w16', 'w24')]
    """
    return tuple(
        Chunk(doc_id=document.id, position=position, text=text, title=document.title, group=document.group)
        for document in documents
        for position, text in enumerate([document.text] if chunking is None else _pieces(document.text, chunking))
    )


def _inside(name: str, base: Path) -> Path:
    """Where the documents are: beside the file that names them, else (older bundles) below the project's root."""
    path, root = inside_experiment(name, base), project_root(base)
    older = (root / name).resolve()
    is_older = base.name == "bundles" and not path.exists() and older.exists() and older.is_relative_to(root)
    return older if is_older else path


def _document(row: Mapping[str, Any], path: Path, line: int) -> Document:
    if unknown := sorted(set(row) - set(_FIELDS)):
        raise FileRuleError(f"unknown key {unknown[0]!r} (known: {', '.join(_FIELDS)})", path=path, line=line)
    for key in _FIELDS:
        value = row.get(key, "" if key in ("title", "group") else None)
        if not isinstance(value, str) or (key in ("id", "text") and not value.strip()):
            raise FileRuleError(f"{key} == {value!r}, must be a non-empty text", path=path, line=line)
    return Document(id=row["id"], text=row["text"], title=row.get("title", ""), group=row.get("group") or row["id"])


def _markdown_files(root: Path) -> list[Path]:
    if not root.is_dir():
        raise FileRuleError("is not a folder (paths start at the file that names them)", path=root)
    markdown = []
    for path in root.rglob("*"):  # which follows no link
        if path.is_symlink():
            if not path.resolve().is_relative_to(root.resolve()):
                raise FileRuleError(f"is a link that leaves {root}; copy the file into the folder", path=path)
        elif path.suffix == ".md" and path.is_file():
            markdown.append(path)
    return sorted(markdown, key=lambda path: path.relative_to(root).as_posix())


def _pieces(text: str, chunking: Chunking) -> Iterator[str]:
    for section in _sections(text) if chunking.by_heading else [text]:
        spans = [match.span() for match in re.finditer(r"\S+", section)]
        step = chunking.size_words - chunking.overlap_words
        for start in range(0, max(1, len(spans) - chunking.overlap_words), step):
            last = spans[min(start + chunking.size_words, len(spans)) - 1]
            yield section[spans[start][0] : last[1]]


def _sections(text: str) -> list[str]:
    starts = {match.start() for pattern in (_MARKDOWN_HEADING, _UNDERLINED_HEADING) for match in pattern.finditer(text)}
    cuts = sorted({0, len(text), *starts})
    return [part for start, end in itertools.pairwise(cuts) if (part := text[start:end]).strip()] or [text]
