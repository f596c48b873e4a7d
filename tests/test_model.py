"""The nouns: a verdict without truth, windows, causes in words; and every doctest."""

import doctest
import importlib
import inspect
import pkgutil
import re
from datetime import timedelta
from pathlib import Path

import pytest
from story import DAY

import analysis
from analysis import causes, model
from analysis.model import Cause, Grade, Verdict, Window


class TestVerdict:
    @pytest.mark.parametrize("verdict", Verdict)
    def test_has_no_truth_value(self, verdict: Verdict) -> None:
        with pytest.raises(TypeError, match="compare it"):
            bool(verdict)
        with pytest.raises(TypeError):
            assert not verdict
        assert verdict == str(verdict)


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_is_told_in_words_of_its_own(cause: Cause) -> None:
    told = causes.words(cause)
    assert told
    assert "_" not in told
    assert [other for other in Cause if causes.words(other) == told] == [cause]


def test_every_cause_stands_in_the_documentation_with_its_proof() -> None:
    page = (Path(__file__).parent.parent / "data" / "README.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    told = [row for row in rows if row[0] in set(Cause)]
    assert told == [(str(cause), causes.words(cause), causes.proof(cause)) for cause in Cause]


def test_grades_are_named() -> None:
    assert [str(grade) for grade in Grade] == ["complete", "inferred", "partial", "none"]


class TestWindow:
    def test_length(self) -> None:
        assert Window("", DAY, DAY + timedelta(minutes=5)).length == timedelta(minutes=5)
        assert Window("", DAY, None).length is None
        assert Window("", None, DAY).length is None

    def test_columns_of_another_prefix(self) -> None:
        row = {"overlap": "empty", "overlap_lower": DAY, "window": "(,)", "window_lower": None}
        assert Window.of(row, "overlap") == Window("empty", DAY, None)


MODULES = sorted(module.name for module in pkgutil.iter_modules(analysis.__path__) if module.name != "__main__")


def test_modules_are_found() -> None:
    assert {"model", "decode", "replay", "lab"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"analysis.{name}")).failed == 0


def test_doctests_exist() -> None:
    finder = doctest.DocTestFinder()
    found = {name: finder.find(importlib.import_module(f"analysis.{name}")) for name in MODULES}
    assert {"constraint", "model"} <= {name for name in MODULES if any(test.examples for test in found[name])}


def test_model_imports_nothing_of_ours() -> None:
    source = inspect.getsource(model)
    assert "import analysis" not in source
    assert "from analysis" not in source
