"""The site, `make docs`: pages of docs/, notebooks, an API reference from docstrings, and recipes, as plain HTML.

Sources are gathered in site/source/ in the layout of the repository, so that links between pages work in both. Pages
fetch nothing when they are read: formulas are MathML, which browsers draw themselves.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from restyle_lib.paths import REPOSITORY, REPRODUCED, WEIGHTS

SITE = REPOSITORY / "site"
LIBRARY = REPOSITORY / "restyle_lib"
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md")
GUIDES = ("how-it-works", "how-it-is-built", "file-formats", "official-checkpoints", "training", "results")
ROOMS = ("inversion", "generators", "encoders", "faces", "features", "checkpoints", "training", "evaluation", "making")
LINK = re.compile(r"\]\(([^)#\s]+)")  # of a page, to a file
PARAMETER = re.compile(r"^([a-z_]\w*(?:, \w+)*):\s+(.*)$")  # of a docstring: `steps: how many`
OUTCOME = re.compile(r"^(Returns|Raises|Warns|Writes|Prints|\w+\(.*\) is called) ?")  # begins a paragraph in pages


def build(out: Path = SITE, options: Sequence[str] = ()) -> Path:
    """Builds the site into out/html and returns its first page. Raises ImportError without the packages for it.

    options: for Sphinx: CI gives -W --keep-going, with which a warning is an error
    """
    if not all(find_spec(name) for name in ("sphinx", "myst_nb", "furo", "latex2mathml")):
        raise ImportError("the site needs more packages: pip install --editable '.[docs]'")
    source, html = out / "source", out / "html"
    gather(source)
    subprocess.run([sys.executable, "-m", "sphinx", "-q", "-b", "html", *options, str(source), str(html)], check=True)
    print(f"wrote {html / 'index.html'}")
    return html / "index.html"


def gather(source: Path) -> list[Path]:
    """Fills the folder with the sources of all pages; returns them."""
    shutil.rmtree(source, ignore_errors=True)
    guides = sorted((REPOSITORY / "docs").glob("*.md"))
    pages = [source / page for page in [*PAGES, *(str(guide.relative_to(REPOSITORY)) for guide in guides)]]
    for page in pages:
        page.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / page.relative_to(source), page)
    (source / "notebooks").mkdir()
    lessons = [Path(shutil.copy(notebook, source / "notebooks")) for notebook in notebooks()]
    for page in [*pages, *lessons]:
        for link in targets(page):  # pictures, and files that a page offers
            original = (REPOSITORY / page.relative_to(source)).parent / link
            copy = Path(os.path.normpath(page.parent / link))
            if original.is_file() and not copy.exists() and copy.is_relative_to(source):
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(original, copy)
    written = {"index.md": index(), "recipes.md": recipes()} | {f"api/{room}.rst": reference(room) for room in ROOMS}
    for name, text in written.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(text, encoding="utf-8")
    (source / "api" / "index.rst").write_text(interface(), encoding="utf-8")
    shutil.copy(REPOSITORY / "docs" / "site" / "conf.py", source)
    return [*pages, *(source / name for name in written)]


def targets(page: Path) -> list[str]:
    """The files of the repository that a page links to or shows, as it names them."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        text = "".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")
    found = LINK.findall(text)
    return [link for link in found if not link.startswith(("http:", "https:", "mailto:"))]


def notebooks(executed: Path = REPRODUCED / "default" / "executed") -> list[Path]:
    """The notebooks in order, each as `make reproduce` ran it where it did."""
    originals = sorted((REPOSITORY / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    return [executed / path.name if (executed / path.name).exists() else path for path in originals]


def index() -> str:
    """The first page: README, and the table of contents."""
    lists = {
        "Guide": [f"docs/{name}" for name in (*GUIDES, "limits-and-licences")],
        "Notebooks": [f"notebooks/{path.stem}" for path in notebooks()],
        "Reference": ["api/index", *(f"api/{room}" for room in ROOMS), "recipes", "data/README"],
        "Project": ["README", "CONTRIBUTING", "CHANGELOG"],
    }
    trees = [
        f"```{{toctree}}\n:hidden:\n:caption: {name}\n\n" + "\n".join(pages) + "\n```" for name, pages in lists.items()
    ]
    return "\n\n".join([(REPOSITORY / "README.md").read_text(encoding="utf-8"), *trees]) + "\n"


def interface() -> str:
    """The page of the public interface, `import restyle_lib as rl`."""
    title = "Public interface"
    names = sorted(__import__("restyle_lib").__all__, key=str.lower)
    parts = [_titled(title), "``import restyle_lib as rl`` offers these; all else may change.\n"]
    for name in names:
        kind = "autoexception" if name.endswith("Error") else "autofunction"
        parts.append(f".. {kind}:: restyle_lib.{name}\n")
    return "\n".join(parts)


def reference(room: str) -> str:
    """The page of a room: its modules with what they define."""
    parts = [_titled(f"restyle_lib.{room}")]
    for path in sorted((LIBRARY / room).rglob("*.py")):
        module = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        if path.read_text(encoding="utf-8").strip():
            parts += [_titled(module.removeprefix("restyle_lib."), "-"), f".. automodule:: {module}\n"]
    return "\n".join(parts)


def _titled(title: str, line: str = "=") -> str:
    return f"{title}\n{line * len(title)}\n"


def recipes() -> str:
    """The page of recipes: how each of the shipped weights was made, as its run wrote it."""
    parts = ["# Recipes\n\nHow each of the shipped weights was made: the JSON beside its file in `data/weights/`."]
    for path in sorted(WEIGHTS.glob("*.json")):
        recipe = json.loads(path.read_text(encoding="utf-8"))
        facts = [f"{name}: {recipe[name]}" for name in ("source", "machine", "minutes") if name in recipe]
        parts.append(
            f"## {path.stem}\n\n{'; '.join(facts)}\n\n```json\n{path.read_text(encoding='utf-8').strip()}\n```"
        )
    return "\n\n".join(parts) + "\n"


def docstring_as_markup(app, what, name, obj, options, lines: list[str]) -> None:
    """For Sphinx: our docstrings as its markup, in place. `steps: how many` becomes a field, the rest stays text."""
    marked: list[str] = []
    inside = False  # a parameter, whose further lines are indented
    for line in lines:
        text = line if "`" in line else re.sub(r"([*|\\])|(?<=\w)(_)(?!\w)", r"\\\g<0>", line)
        if (found := PARAMETER.match(line)) or OUTCOME.match(line):
            if marked and marked[-1] and not (found and inside):
                marked.append("")
            inside = bool(found)
            marked.append(_field(found[1], text) if found else text)
        elif inside and line.startswith(" "):
            marked.append(f"    {text.strip()}")
        else:
            if inside and line:
                marked.append("")
            inside = False
            marked.append(text)
    lines[:] = marked


def _field(names: str, text: str) -> str:
    """A line about parameters as Sphinx's field."""
    return f":{names if ',' in names else f'param {names}'}: {text.partition(': ')[2].strip()}"


def math_as_mathml() -> tuple[tuple[Callable, None], tuple[Callable, None]]:
    """For Sphinx: how formulas within lines and between them are written, as MathML."""
    from docutils import nodes
    from latex2mathml.converter import convert

    def written(display: str) -> tuple[Callable, None]:
        def visit(self, node) -> None:
            text = node.astext().replace(r"\|", r"\Vert ")
            self.body.append(convert(text, display=display))
            raise nodes.SkipNode

        return visit, None

    return written("inline"), written("block")


if __name__ == "__main__":
    build(options=sys.argv[1:])
