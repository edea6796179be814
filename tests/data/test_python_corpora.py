"""Source code and prose of the running interpreter."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from beyond_ce.configuration import build, compose
from beyond_ce.data import Corpus, PythonDocs
from beyond_ce.data import python_source as module
from beyond_ce.data.python_docs import distinct_topics, docstrings

SETTINGS = {"sequence_length": 64, "validation_share": 0.04, "test_share": 0.06}
LONG = "A sentence that is long enough to be worth reading. " * 2


@pytest.fixture(scope="module")
def corpora(cache_dir: Path) -> dict[str, Corpus]:
    return {
        name: build(compose([f"dataset={name}", f"cache_dir={cache_dir}"]).dataset, "dataset")
        for name in ("python_source", "python_docs")
    }


def test_source_is_the_standard_library_without_tests(corpora: dict[str, Corpus]) -> None:
    splits = corpora["python_source"].load()
    assert list(splits) == ["train", "validation", "code"]
    names = {name for rows in splits.values() for name in rows["task"]}
    assert len(names) == sum(map(len, splits.values())) > 300
    assert {"argparse.py", "json/decoder.py"} <= names
    parts = {part for name in names for part in name.split("/")}
    assert not parts & {"test", "tests", "site-packages", "pydoc_data", "encodings"}
    assert all(sum(map(len, rows["text"])) > 100_000 for rows in splits.values())
    stdlib = Path(sysconfig.get_path("stdlib"))
    for row in splits["code"]:
        assert row["text"].isascii() is (stdlib / row["task"]).read_bytes().isascii()


def test_prose_is_docstrings_and_topics(corpora: dict[str, Corpus]) -> None:
    splits = corpora["python_docs"].load()
    texts = {row["task"]: row["text"] for rows in splits.values() for row in rows}
    assert "Command-line parsing library" in texts["argparse.py"]
    assert "import argparse" not in texts["argparse.py"].splitlines()
    assert any(name.startswith("topics/") for name in texts)
    assert all(sum(map(len, rows["text"])) > 20_000 for rows in splits.values())


def test_a_file_is_in_the_same_split_of_both(corpora: dict[str, Corpus]) -> None:
    code, prose = (corpora[name].load() for name in ("python_source", "python_docs"))
    assert not set(code["code"]["task"]) & set(prose["train"]["task"])
    assert not set(prose["prose"]["task"]) & set(code["train"]["task"])


def library(folder: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    monkeypatch.setattr(module.sysconfig, "get_path", lambda _: str(folder))


def test_what_is_no_source_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "b.py": "# coding: latin-1\nx = 'ü'\n".encode("latin-1"),
        "a/c.py": b"x = 1\n",
        "a/empty.py": b"\n",
        "bytes.py": b"x = '\xff'\n",
        "test/d.py": b"x = 1\n",
        "a/tests/d.py": b"x = 1\n",
        "site-packages/d.py": b"x = 1\n",
        "_sysconfigdata_x.py": b"x = 1\n",
        "config-3.11-x/e.py": b"x = 1\n",
    }
    library(tmp_path / "one", monkeypatch, files)
    found = dict(module.library_files())
    assert found == {"a/c.py": "x = 1\n", "b.py": "# coding: latin-1\nx = 'ü'\n"}
    one = module.PythonSource(cache_dir=tmp_path, **SETTINGS).fingerprint()
    library(tmp_path / "two", monkeypatch, files)
    assert module.PythonSource(cache_dir=tmp_path, **SETTINGS).fingerprint() == one
    library(tmp_path / "two", monkeypatch, {"a/c.py": b"x = 2\n"})
    assert module.PythonSource(cache_dir=tmp_path, **SETTINGS).fingerprint() != one


def test_docstrings_come_in_order_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = f'''"""First. {LONG}"""
class A:
    def f(self):
        """Second. {LONG}

            Indented.

        Not.
        """
    def short(self):
        """Too short."""
async def g():
    """Third. {LONG}"""
x = """No docstring. {LONG}"""
'''
    assert [text.split(".")[0] for text in docstrings(source)] == ["First", "Second", "Third"]
    assert docstrings(source)[1].endswith("\n\n    Indented.\n\nNot.")
    library(tmp_path, monkeypatch, {"a.py": source.encode(), "copy.py": source.encode()})
    documents = PythonDocs(cache_dir=tmp_path, **SETTINGS).documents()
    assert [each.task for each in documents if "/" not in each.task] == ["a.py"]


def test_sections_of_a_longer_topic_are_left_out() -> None:
    topics = {
        "for": "Title\n\nFor.\n\nLoops.",
        "all": "Chapter\n\nFor.\n\nLoops.\n\nIf.",
        "del": "D",
    }
    assert distinct_topics(topics) == {"all": topics["all"], "del": "D"}
