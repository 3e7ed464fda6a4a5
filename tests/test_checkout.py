"""What README and docs/ say to run leaves the checkout as it was: what it writes is ignored, nothing is overwritten."""

import ast
import re
import subprocess

from restyle_lib.paths import FIGURES, REPOSITORY, RESULTS, destination

# How the commands of README, CONTRIBUTING and docs/ begin, and what they write where the command names nothing else.
MEASURED = ["runs/measured/results/x.csv", "runs/measured/figures/x.jpg"]
WRITES = {
    "make install": [".venv/x"],
    "make explore": [],
    "make lab": ["lab/02_steps.ipynb", "lab/.ipynb_checkpoints/x"],
    "make reproduce": ["reproduced/default/report.html"],
    "restyle reproduce": ["reproduced/default/report.html"],
    "make test": [".pytest_cache/x", ".hypothesis/x"],
    "make check": [".ruff_cache/x"],
    "make docs": ["site/html/index.html"],
    "restyle assets": [],
    "restyle invert": ["inverted/x.png"],
    "restyle edit": ["edited/x.png"],
    "restyle film": ["film.mp4", "x.gif"],
    "restyle train": ["runs/restyle-psp/checkpoint.pt"],
    "restyle convert": ["mine.safetensors"],
    "restyle compare": [],
    "python benchmarks/": MEASURED,
    "python -m restyle_lib.reporting.showcase": MEASURED,
    "python -m restyle_lib.evaluation.slots": MEASURED,
    "python -m restyle_lib.making.encoders": ["inputs/generator.safetensors", "trained/psp.safetensors"],
    "python -m restyle_lib.making.directions": None,  # for maintainers: it makes what is committed
    "python -m pytest": [".pytest_cache/x"],
    "python -m venv": [".venv/x"],
    "papermill notebooks/09_full_scale.ipynb": ["out.ipynb", "reproduced/default/results/x.csv"],
    "accelerate launch": ["runs/x"],
    "tensorboard": [],
    "pip install": ["restyle_companion.egg-info/x"],
    "conda env create": [],
    "pre-commit install": [],
}


def commands() -> list[str]:
    """Of README, CONTRIBUTING and docs/, what is to be typed into a shell."""
    found = []
    for page in (REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))):
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        found += [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines() if line]
        spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        programs = {begin.partition(" ")[0] for begin in WRITES}
        found += [span for span in spans if _plain(span).partition(" ")[0] in programs and " " in span]
    return [_plain(each) for each in found]


def _plain(command: str) -> str:
    return re.sub(r"^\.venv[/\\](bin|Scripts)[/\\]", "", command)


def test_what_readme_and_docs_say_to_run_leaves_the_checkout_clean():
    """What their commands write, where no other folder is named, is ignored, and nothing in git is written over."""
    known = commands()
    assert len(known) > 30 and [each for each in known if not each.startswith(tuple(WRITES))] == []
    assert [begin for begin in WRITES if not any(each.startswith(begin) for each in known)] == []
    named = {name.rstrip("/") for each in known for name in re.findall(r"--out ([\w./-]+)", each)}
    assert {"me", "edited", "steps.mp4", "inverted", "pairs.csv"} <= named
    written = {name if "." in name else f"{name}/photo-1024.png" for name in named}
    for path in written | {path for paths in WRITES.values() for path in paths or ()}:
        run = subprocess.run(["git", "check-ignore", "--quiet", path], cwd=REPOSITORY, check=False)
        assert run.returncode == 0, f"{path} would be in `git status`"


def test_scripts_write_committed_tables_for_maintainers_alone():
    assert destination(RESULTS, True) == RESULTS and destination(FIGURES, True) == FIGURES
    assert {destination(folder, False).name for folder in (RESULTS, FIGURES)} == {"results", "figures"}
    assert destination(RESULTS, False).is_relative_to(REPOSITORY / "runs")
    scripts = [path for room in ("restyle_lib", "benchmarks") for path in sorted((REPOSITORY / room).rglob("*.py"))]
    calls = [
        (path.name, ast.unparse(node))
        for path in scripts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.BinOp) and ast.unparse(node.left) in ("RESULTS", "FIGURES")
    ]
    assert calls == [("readme.py", "RESULTS / f'{name}.csv'")], "which reads it; others ask `destination`"


def test_make_lab_opens_copies_and_keeps_what_was_changed(tmp_path):
    """JupyterLab saves outputs into what it opens: never into the notebooks of the repository."""
    (tmp_path / "notebooks").mkdir()
    for name in ("00_generator", "02_steps"):
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text("as committed")
    (tmp_path / "jupyter").write_text("#!/bin/sh\necho opened $*\n")
    (tmp_path / "jupyter").chmod(0o755)
    make = ["make", "-f", str(REPOSITORY / "Makefile"), "-o", ".venv/installed", "lab", f"BIN={tmp_path}"]
    for _ in range(2):
        run = subprocess.run(make, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "opened lab --LabApp.default_url=/lab/tree/lab" in run.stdout
        (tmp_path / "lab" / "02_steps.ipynb").write_text("with an exercise done")
    assert (tmp_path / "lab" / "00_generator.ipynb").read_text() == "as committed"
    assert (tmp_path / "notebooks" / "02_steps.ipynb").read_text() == "as committed"
    (tmp_path / "notebooks" / "00_generator.ipynb").write_text("as committed next")
    subprocess.run(make, cwd=tmp_path, capture_output=True, check=True)
    assert (tmp_path / "lab" / "02_steps.ipynb").read_text() == "with an exercise done"
