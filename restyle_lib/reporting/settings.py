"""The settings of training as tables for docs/training.md, read from the code that training reads."""

import ast
import dataclasses
import inspect

import pandas as pd

from restyle_lib.checkpoints.domains import DOMAINS
from restyle_lib.training import full_scale
from restyle_lib.training.settings import SETTINGS, Settings


def reasons() -> pd.DataFrame:
    """Every setting with its default and the reason that stands below it in training/settings.py."""
    (settings,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(settings, ast.ClassDef)
    said: dict[str, str] = {}
    for statement, below in zip(settings.body, [*settings.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            reason = below.value if isinstance(below, ast.Expr) else None
            said[statement.target.id] = " ".join(str(reason.value).split()) if isinstance(reason, ast.Constant) else ""
    rows = [(f"`{field.name}`", _shown(field.default), said[field.name]) for field in dataclasses.fields(Settings)]
    return pd.DataFrame(rows, columns=["setting", "default", "why"])


def domains() -> pd.DataFrame:
    """What is not the same for ReStyle-e4e in every domain; "embedded" is the one of the embedded faces."""
    recipes = {"embedded": SETTINGS["restyle-e4e"]}
    for domain in [*DOMAINS, "own"]:
        recipes[domain] = full_scale.settings_of("restyle-e4e", full_scale.domain_named(domain), "stylegan2.pt")
    table = pd.DataFrame({domain: dataclasses.asdict(recipe) for domain, recipe in recipes.items()}).map(_shown)
    table = table[table.nunique(axis=1) > 1].drop(index=["domain", "generator"])
    return table.rename(index="`{}`".format).rename_axis("setting").reset_index()


def _shown(value) -> str:
    """A default as one would type it; an empty one as a dash."""
    return f"{value:g}" if isinstance(value, float) else str(value) or "–"
