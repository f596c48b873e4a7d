"""What the README shows is what the kit does; run as a script, this file writes it anew (``make sample`` does)."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import analysis
from analysis import canvas, cli, timeline

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "data" / "timeline.svg"
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```console\n\$ forensics ([^\n]*)\n(.*?)```", README, re.DOTALL)


def test_readme_has_an_example() -> None:
    assert len(EXAMPLES) >= 1


@pytest.mark.parametrize(("command", "output"), EXAMPLES)
def test_readme_examples_print_what_they_say(
    command: str, output: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as ended:
        cli.main(shlex.split(command))
    assert ended.value.code == 0
    assert capsys.readouterr().out == output


def test_readme_names_only_commands_that_exist() -> None:
    named = set(re.findall(r"forensics (\w+)", README)) | {"checks", "explain", "state", "cache", "retention"}
    assert named <= _commands()


def test_readme_names_every_make_target_rightly() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make (\w+)  ", README)) | set(re.findall(r"`make (\w+)`", README)) <= targets


def test_readme_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert links
    for link in links:
        file, _, heading = link.partition("#")
        assert (ROOT / file).exists()
        assert not heading or re.search(rf"^#+ {heading.replace('-', ' ')}$", (ROOT / file).read_text(), re.M | re.I)


def test_the_picture_in_the_readme_is_the_chart_of_its_example() -> None:
    assert PICTURE.read_text() == picture()


def picture() -> str:
    """Draw the timeline of the check that the README explains."""
    check_id = shlex.split(EXAMPLES[0][0])[1]
    told = analysis.explain_check(analysis.open_store(ROOT / "data" / "sample"), check_id)
    return canvas.svg(timeline.draw(told.check))


def rewrite() -> None:
    """Write the README's outputs and its picture anew."""
    text = README
    for command, output in EXAMPLES:
        told = subprocess.run(
            [sys.executable, "-m", "analysis", *shlex.split(command)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        text = text.replace(f"forensics {command}\n{output}```", f"forensics {command}\n{told.stdout}```")
    (ROOT / "README.md").write_text(text)
    PICTURE.write_text(picture())


def _commands() -> set[str]:
    usage = cli._parser().format_help()
    return set(re.findall(r"^    (\w+)\b", usage, re.MULTILINE))


if __name__ == "__main__":
    rewrite()
