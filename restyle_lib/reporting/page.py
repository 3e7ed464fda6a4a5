"""One page to look at: the claims, tables and figures of a run in a single HTML file, the notebooks beside it."""

import base64
import io
import os
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from nbconvert import HTMLExporter
from PIL import Image

from restyle_lib.evaluation.evaluate import with_intervals
from restyle_lib.evaluation.profiles import Profile
from restyle_lib.paths import REPOSITORY, RESULTS, save_atomically
from restyle_lib.reporting.readme import cell

WIDEST = 1400  # px of an embedded figure
QUALITY = 78  # of WebP


@dataclass(frozen=True)
class Section:
    """A part of the page: the notebook that it comes from, and captions of its tables and figures by file."""

    title: str
    notebook: str
    tables: dict[str, str] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)


SECTIONS = [
    Section(
        "Photographs and renders, step by step",
        "02_steps",
        figures={
            "photos_steps.jpg": "Four photographs: the mean face, five steps of ReStyle-pSp, and what optimization "
            "makes of the last one.",
            "photos_measured.jpg": "The same steps with L2 and identity under each, and where the error is.",
            "renders_steps.jpg": "Renders that no encoder has seen; the last column is the final code at 1024 px.",
            "methods.jpg": "Every method on the same renders and photographs, its final code rendered at 1024 px.",
        },
    ),
    Section(
        "All methods, measured",
        "03_eval",
        tables={
            "eval_table": "Held-out renders at 256 px: means and 95 % intervals over images. Times are of batch 1, all "
            "measured in one run.",
            "eval_paired": "Encoders image by image. A side is better where the interval of the difference holds no "
            "zero.",
            "eval_photos": "Four photographs, one by one, at 256 px.",
        },
        figures={
            "eval_extremes.jpg": "The renders that ReStyle-pSp reconstructs best and worst, and pSp beside it.",
            "eval_paired.png": "Image by image: one pass to the right, refinement upwards; on the line nothing is won.",
            "eval_time.png": "Quality against seconds per image, all methods on the same images. A curve is an "
            "iterative method, a diamond a single pass; bars are 95 % intervals.",
            "eval_photos_time.png": "The same of four photographs, with longer searches.",
            "eval_curves.png": "The encoders over their steps, 95 % bands. They were trained for five steps, on some "
            "batches ten.",
        },
    ),
    Section(
        "What each step changes",
        "04_heatmaps",
        figures={
            "heatmaps_mean.jpg": "Where each step changes the image, mean over renders. Red is much, blue little.",
            "heatmaps_faces.jpg": "The same of single faces.",
            "heatmaps_bands.png": "How regions, spatial frequencies and style slots spread their change over steps.",
        },
    ),
    Section(
        "Editing what was inverted",
        "05_editability",
        tables={
            "edits_table": "What an edit of one standard deviation costs, and how far the codes are from W: means and "
            "95 % intervals.",
            "edits_cosines": "The directions beside published ones, and beside the best of two unsupervised methods.",
        },
        figures={
            "edits_photo.jpg": "A photograph, inverted by every method and edited.",
            "edits_render.jpg": "A render, inverted by every method and edited; last its true code.",
            "edits_curves.png": "What edits change against what they cost: identity above, other attributes below.",
            "edits_distance.png": "What edits cost against how far a code is from W.",
            "edits_choices.jpg": "Three directions that satisfy the same equations: the shortest, the shipped one, the "
            "most usual.",
            "edits_directions.jpg": "The directions, and three of each unsupervised method.",
        },
    ),
    Section(
        "From faces to cartoons",
        "06_bootstrapping",
        figures={
            "toon_photos.jpg": "Photographs as cartoons: the toon encoder alone, bootstrapped by the face encoder, and "
            "from the code that the hybrid found.",
            "toon_generators.jpg": "The toon generator, what it learned from, and layers swapped with the face "
            "generator.",
            "bootstrapping_curves.png": "The toon encoder alone and bootstrapped, over encoder passes, 95 % bands.",
            "bootstrapping_zoom.jpg": "Eyes to mouth after two passes, where the two ways differ most in identity.",
            "bootstrapping_steps.jpg": "The same faces step by step, alone and bootstrapped.",
        },
    ),
    Section(
        "What matters, and what does not",
        "08_ablations",
        tables={"ablations": "Error and identity after some steps, means and 95 % intervals."},
        figures={
            "ablations_decay.jpg": "The shipped encoder far beyond its training, with and without decay.",
            "ablations_N.jpg": "Encoders that were shown one, three and five steps, far beyond them.",
            "ablations_start.jpg": "Before training, and after a short one from two starts.",
            "ablations.png": "Four ablations: error over steps. Short trainings can be compared with each other only.",
            "ablations_longer.png": "Two of them, after trainings ten times as long: what one committed run found.",
        },
    ),
    Section(
        "Training and generator",
        "01_train_encoders",
        figures={
            "architecture.png": "The loop.",
            "batch.jpg": "What an encoder learns from: images, each beside what it sees as a reconstruction.",
            "training_restyle-psp.png": "A training of minutes.",
            "small_generator.jpg": "The small generator of the lessons, beside the whole one.",
            "truncation.jpg": "Truncation: from a sample to the mean face.",
            "style_mixing.jpg": "Style mixing.",
        },
    ),
    Section(
        "Official sizes",
        "09_full_scale",
        tables={
            "benchmark_full_scale": "Encoder and generator of the official geometries, per call.",
            "benchmark_train": "Training, beside the plain formulation.",
        },
    ),
]
QUOTED = (
    "Published, not measured here: CelebA-HQ photographs, other encoders and other networks behind the metrics. "
    "Sources: HyperStyle, the paper (Alaluf et al., CVPR 2022); GANInverter, the toolbox's benchmark, LPIPS with VGG."
)


def write(profile: Profile, executed: Path) -> Path:
    """Writes report.html into a profile's folder, and of every notebook in `executed` its HTML beside it.

    What a run did not make is left out; figures that no section knows come last, under their names.
    """
    out = profile.folder / "report.html"
    captions = {name: caption for section in SECTIONS for name, caption in section.figures.items()}
    others = sorted(path.name for path in profile.figures.glob("*.*") if path.suffix in {".jpg", ".png"})
    others = [name for name in others if name not in captions and not name.startswith("my_photo")]
    claims = claims_table(profile.results)
    page = Environment(loader=PackageLoader("restyle_lib.reporting", "."), autoescape=True, undefined=StrictUndefined)
    html = page.get_template("report.html").render(
        profile=profile,
        claims=claims.to_dict("records"),
        verdicts=claims.verdict.value_counts().to_dict() if len(claims) else {},
        sections=[filled(section, profile) for section in SECTIONS],
        others=filled(Section("", "", figures={name: Path(name).stem.replace("_", " ") for name in others}), profile),
        quoted=table(pd.read_csv(REPOSITORY / "data" / "quoted.csv"), QUOTED),
        notebooks=[
            (path.stem, os.path.relpath(as_html(path), out.parent)) for path in sorted(executed.glob("*.ipynb"))
        ],
    )
    save_atomically(lambda temporary: temporary.write_text(html, encoding="utf-8"), out)
    return out


def _results(profile: Profile, name: str) -> Path:
    """Benchmarks are not run by notebooks: the committed ones are shown."""
    return RESULTS if name.startswith("benchmark_") else profile.results


def claims_table(results: Path) -> pd.DataFrame:
    """All claims of a run in their order: claim, what, effect, low, high, n, verdict; numbers as text."""
    tables = [pd.read_csv(path) for path in sorted(results.glob("claims_*.csv"))]
    claims = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["claim", "verdict"])
    return claims.sort_values("claim", kind="stable").map(cell)


def filled(section: Section, profile: Profile) -> dict:
    """A section as the page shows it, without what is not there.

    Figures are (picture, whether it is too broad for a phone, caption).
    """
    tables = {_results(profile, name) / f"{name}.csv": caption for name, caption in section.tables.items()}
    figures = {profile.figures / name: caption for name, caption in section.figures.items()}
    return {
        "title": section.title,
        "notebook": section.notebook,
        "tables": [table(pd.read_csv(path), caption) for path, caption in tables.items() if path.exists()],
        "figures": [(*embedded(path), caption) for path, caption in figures.items() if path.exists()],
    }


def table(rows: pd.DataFrame, caption: str) -> dict:
    """A table as text. A summary of `evaluate.summarise` by method becomes a row per method."""
    if {"method", "metric", "mean", "low", "high"} <= set(rows):
        order = list(dict.fromkeys(rows.method))
        rows = with_intervals(rows, "method").loc[order].assign(n=rows.groupby("method").n.first()).reset_index()
    return {"caption": caption, "head": list(rows), "rows": rows.map(cell).values.tolist()}


def embedded(path: Path) -> tuple[str, bool]:
    """A picture as a data URL: WebP, at most WIDEST wide; and whether it is broader than high."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((WIDEST, 10 * WIDEST))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=QUALITY, method=6)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode(), image.width > 1.2 * image.height


def as_html(notebook: Path) -> Path:
    """Writes an executed notebook's HTML beside it."""
    html, _ = HTMLExporter().from_filename(str(notebook))
    out = notebook.with_suffix(".html")
    save_atomically(lambda temporary: temporary.write_text(html, encoding="utf-8"), out)
    return out
