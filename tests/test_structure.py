"""The rooms of the house: what may import what, so that each thing has one place and can be read from below."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import restyle_lib
from restyle_lib.paths import REPOSITORY

LIBRARY = Path(restyle_lib.__file__).parent
# Each floor imports from itself and from those above it in this list.
FLOORS = (
    ("memory", "paths", "images", "precision", "compilation", "assets"),
    ("generators", "encoders", "features", "faces", "checkpoints", "losses"),
    ("inversion",),
    ("training", "evaluation"),
    ("making", "reporting", "widgets", "commands", "train"),
)
FLOOR = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}


def imported(path: Path) -> set[str]:
    """The rooms and loose modules of the library that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "restyle_lib":
            inside = node.module.removeprefix("restyle_lib").lstrip(".")
            names |= {inside} if inside else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            names |= {alias.name.removeprefix("restyle_lib.") for alias in node.names if "restyle_lib." in alias.name}
    return {name.partition(".")[0] for name in names}


def test_every_module_has_a_room():
    rooms = {path.stem if path.is_file() else path.name for path in LIBRARY.iterdir() if not path.name.startswith("__")}
    assert rooms == set(FLOOR)


def test_imports_point_downwards():
    wrong = []
    for path in sorted(LIBRARY.rglob("*.py")):
        room = path.relative_to(LIBRARY).parts[0].removesuffix(".py")
        if room != "__init__":
            above = [name for name in imported(path) if FLOOR[name] > FLOOR[room]]
            wrong += [f"{path.relative_to(LIBRARY)} imports {name}" for name in above]
    assert not wrong, "\n".join(wrong)


def test_commands_start_without_what_few_of_them_need():
    """Each of these takes a second or more to import."""
    slow = ("torch._dynamo", "papermill", "nbconvert", "scipy.stats", "seaborn")
    code = f"import sys, restyle_lib.commands.cli; print([name for name in {slow} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_the_table_of_tests_says_what_each_file_says():
    """tests/README.md has a row for every file, with the first paragraph of its docstring."""
    tests = REPOSITORY / "tests"
    rows = re.findall(
        r"^\| `(test_\w+\.py)` \| (.+) \|$", (tests / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    said = {path.name: ast.get_docstring(ast.parse(path.read_text())) for path in sorted(tests.glob("test_*.py"))}
    assert dict(rows) == {name: " ".join(text.partition("\n\n")[0].split()) for name, text in said.items()}
    assert [name for name, _ in rows] == sorted(said)
