"""The notebooks: well made, fully executed, the same on every machine, and right on evidence they have never seen."""

import ast
import json
import os
import re
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from story import CHECKED_AT, planted, story

from analysis import manifest, stores

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
named = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def test_there_is_one_for_every_question() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == ["00", "01", "02", "03", "04", "05"]


@named
def test_its_title_is_the_question(path: Path) -> None:
    title = source(cells(path, "markdown")[0]).splitlines()[0]
    assert re.fullmatch(r"# .*\?", title)


@named
def test_its_first_code_cell_holds_the_parameters(path: Path) -> None:
    first, *others = cells(path, "code")
    assert first["metadata"]["tags"] == ["parameters"]
    assert [other for other in others if other["metadata"].get("tags")] == []


@named
def test_every_code_cell_was_executed_in_order_without_error(path: Path) -> None:
    """Strict nbval compares nothing in a cell that was never executed."""
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert [
        output
        for cell in code
        for output in cell["outputs"]
        if output["output_type"] in ("error", "stream") and output.get("name") != "stdout"
    ] == []


@named
def test_it_calls_and_shows_and_does_nothing_else(path: Path) -> None:
    """No definitions, loops, magics, SQL or paths: long work lives in the package."""
    for cell in cells(path, "code"):
        tree = ast.parse(source(cell))
        forbidden = (
            ast.FunctionDef,
            ast.ClassDef,
            ast.Lambda,
            ast.For,
            ast.While,
            ast.ListComp,
            ast.DictComp,
            ast.GeneratorExp,
        )
        assert not [node for node in ast.walk(tree) if isinstance(node, forbidden)]
        strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        assert not [s for s in strings if re.search(r"\bselect\b.*\bfrom\b", s, re.IGNORECASE) or "/" in s]
    assert len(cells(path, "code")) <= 16


@named
def test_its_last_cell_asserts_and_prints_a_computed_answer(path: Path) -> None:
    last = cells(path, "code")[-1]
    assert "assert" in source(last)
    assert "print(f" in re.sub(r"\s", "", source(last)).replace("print(\n", "print(")
    assert re.search(r"\d", "".join(last["outputs"][0]["text"]))


@named
def test_its_charts_are_still_pictures(path: Path) -> None:
    """A picture that shows on a code host and offline; no script, no random ids."""
    bundles = [output.get("data", {}) for cell in cells(path, "code") for output in cell["outputs"]]
    assert not [kind for bundle in bundles for kind in bundle if "vega" in kind or "javascript" in kind or "widget" in kind]
    assert "<script" not in path.read_text()


def nbval(mode: str, **environment: str) -> None:
    """Run the notebooks under nbval in a process and an environment of their own; fail with its whole report."""
    command = [sys.executable, "-m", "pytest", mode, "--nbval-current-env", "-p", "no:cacheprovider", "-q", "notebooks"]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("FORENSICS_", "PYTEST_"))}
    done = subprocess.run(command, cwd=ROOT, env=inherited | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)


def test_their_outputs_on_the_sample_are_those_committed_in_any_zone_and_locale() -> None:
    nbval("--nbval", TZ="Asia/Tokyo", LC_ALL="C")


def test_they_hold_on_a_store_freshly_captured_from_the_lab(lab_store: Path) -> None:
    nbval("--nbval-lax", FORENSICS_STORE=str(lab_store))


def test_they_hold_on_a_young_store_and_an_odd_one(tmp_path: Path) -> None:
    """A question asked again after 60 days, a snapshot that is cut off, meals further ahead than the evidence is long."""
    asked = story("a1 [0,10) firm · c1 [5,8) by:B refused")
    far = "2025-11-18 18:00:00+00"
    rows = [
        *(replace(asked, name=f"c{n}", checked_at=CHECKED_AT + timedelta(days=60 * n)).row() for n in range(2)),
        story("c2 [0,8) by:C").row(snapshot_data='{"allocations": ['),
    ]
    young = [story(f"c{n} [40000,40090) by:A{n}").row(checked_at=far) for n in range(3)]
    for name, checks in (("odd", rows), ("young", young)):
        with closing(planted(checks=checks, captures=["2026-02-01 00:00:00+00"])) as con:
            manifest.prepare(con)
            stores.export(con, tmp_path / name)
        nbval("--nbval-lax", FORENSICS_STORE=str(tmp_path / name))
