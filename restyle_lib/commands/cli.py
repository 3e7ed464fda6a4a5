"""The command `restyle`."""

import io
import os
import signal
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from restyle_lib import assets, train
from restyle_lib.checkpoints.domains import DOMAINS, size_of
from restyle_lib.commands import common, finished, reproduce
from restyle_lib.commands import evaluate as evaluation
from restyle_lib.commands.film import film
from restyle_lib.evaluation.cache import digest
from restyle_lib.faces.paste import paste as paste_back
from restyle_lib.generators.averaged import can_average
from restyle_lib.generators.mobile import MobileGenerator
from restyle_lib.images import PhotoError, to_image, to_tensor
from restyle_lib.inversion import edit as editing
from restyle_lib.inversion.inverter import FOR_PHOTOGRAPHS, Inverter
from restyle_lib.inversion.inverter import convert as convert_checkpoint
from restyle_lib.inversion.optimize import hybrid
from restyle_lib.inversion.quality import PHOTO_SIZE, QUALITY, TUNED_SIZE, Effort, Quality
from restyle_lib.inversion.result import Inversion
from restyle_lib.inversion.tune import save_tuned, tune
from restyle_lib.paths import save_atomically
from restyle_lib.reporting import figures

LONGEST_NAME = 150  # bytes of a photograph's name that its results are named after
MOST_COLUMNS = 21  # of a grid of edits

# What may go back into a photograph, by what its file's name adds: an image, and the same before it was edited.
Pastes = dict[str, tuple[Tensor, Tensor | None]]


def invert(
    photos: tyro.conf.Positional[list[Path]],
    out: Path,
    quality: Quality | None = None,
    steps: int = 5,
    optimize: int | None = None,
    model: str = FOR_PHOTOGRAPHS,
    aligned: bool = False,
    domain: str | None = None,
    input_size: str | None = None,
    device: str | None = None,
    face: str = "1",
    paste: bool = False,
    tolerance: float = 0.0,
    every_step: bool = False,
) -> int:
    """Inverts photographs; writes for each a step strip, the result at full size, the crop it saw, and the latents.

    photos:  image files of any kind and size, or folders of them
    out:     folder, made where missing: NAME-steps.png, NAME-1024.png, NAME-input.png, NAME.safetensors
    quality: "fast", the encoder's steps, a second a photograph; "good", a search for a better code that begins there,
             a quarter of a minute on two cores; "best", the generator is tuned too, within a minute, saved as
             NAME-tuned.safetensors, which rl.load_generator opens. Without it: good for a single photograph at a
             terminal, else fast
    steps:   refinement steps N
    optimize: steps of the search, where not those of the quality (the paper's hybrid); 0 for none. Of a single
             photograph Ctrl-C ends the search, or the tuning, and keeps the best so far
    model:   a shipped inverter, an official pSp, e4e or ReStyle checkpoint, or a .safetensors file
    aligned: the photographs are cropped already
    domain:  what a checkpoint is of, where it does not say so rightly: faces, cars, church, horse, wild, toonify or own
    input_size: height x width of what its encoder sees, e.g. 256 or 192x256, where that is not the domain's
    device:  cpu, cuda or cuda:1; without it, the first GPU where there is one
    face:    which one of a photograph with several: 1 for the largest, 2 for the next …, or all of them
    paste:   the result also goes back into the photograph, at its size: NAME-pasted.png
    tolerance: a photograph takes no further steps after one that changes its reconstruction by less than this, as the
             root mean square of values from -1 to 1: with 0.04, 3 steps of up to 5, at an L2 that is 3 % higher
             (of four photographs and twelve held-out renders); 0 takes them all
    every_step: the image of each step at full size too, NAME-step0-1024.png, of the mean face, to NAME-step5-1024.png
    A photograph that cannot be used is reported in one line and skipped; the exit code is then 1. A call that was
    stopped goes on: what `out` has of the same file, model and settings is not made again, except with --paste, and
    except what Ctrl-C made end early.
    """
    effort = _effort(quality, optimize, photos)

    def keep(name: str, crop: Image.Image, result: Inversion, G, note: dict[str, str]) -> Pastes:
        for t in range(steps + 1) if every_step else ():  # by the generator that made them, tuned or not
            _save_image(to_image(result.final(inverter.G, t)), out / f"{name}-step{t}-{G.resolution[1]}.png", note)
        return {"": (_write_steps(out, name, crop, result, G, effort, note), None)}

    def results(size: int) -> finished.Results:
        each = [f"-step{t}-{size}.png" for t in range(steps + 1) if every_step]
        return finished.Results([".safetensors", "-steps.png", f"-{size}.png", "-input.png", *each])

    inverter = common.opened(model, domain, input_size, device)
    return _each(
        photos, steps, effort, inverter, aligned, out, keep, face, paste, None if paste else results, tolerance
    )


def edit(
    photos: tyro.conf.Positional[list[Path]],
    out: Path,
    direction: tyro.conf.UseAppendAction[list[str]],
    strength: float = 2.0,
    span: Annotated[str | None, tyro.conf.arg(name="range", metavar="LOW:HIGH:COUNT")] = None,
    quality: Quality | None = None,
    steps: int = 5,
    optimize: int | None = None,
    model: str = FOR_PHOTOGRAPHS,
    aligned: bool = False,
    domain: str | None = None,
    input_size: str | None = None,
    device: str | None = None,
    face: str = "1",
    paste: bool = False,
) -> int:
    """Inverts photographs and edits them; writes for each the edit at full size, a strip of what led to it, the code.

    photos:    image files of any kind and size, or folders of them
    out:       folder, made where missing: NAME-DIRECTION+2-strip.png, …-1024.png, ….safetensors
    direction: smile, age, pose, gender, nod, mouth, glasses, fringe, hair or background; or a file (.pt, .npy,
               .safetensors) of a direction, [512] or [k, 512]; smile=1,age=-1 for both at once. Given several times,
               each is an edit of its own
    strength:  in standard deviations of the attribute among the generator's faces, or times the direction of a file;
               below 0 the other way
    span:      --range=-2:2:5 draws a grid instead, NAME-DIRECTION-grid.png, of five strengths from -2 to 2 in columns,
               and a row for each direction; its codes are those of the grid, [rows, columns, k, 512]
    paste:     each edit also goes back into the photograph, at its size: NAME-DIRECTION+2-pasted.png
    The others, photographs that cannot be used, and a call that was stopped are as for `restyle invert`. Raises
    ValueError for a model that is not of faces, whose W has other directions, and for a file that holds none that fits.
    """
    # what is wrong with the directions is said before anything takes time
    if not direction:
        raise ValueError(f"no --direction given; there are {', '.join(editing.directions())}, or a file of one")
    edits, strengths = [editing.parse(words) for words in direction], _range(span) if span else None
    changes: dict[str, Tensor] = {}
    for asked in edits:
        name = asked.label if strengths else _ending(asked, strength)
        change = asked.direction * (1 if strengths else asked.strength or strength)
        if not torch.equal(changes.setdefault(name, change), change):
            raise ValueError(f"two directions are named {asked.label}, and so would be their results: rename a file")
    inverter = common.opened(model, domain, input_size, device)
    for asked in edits:
        editing.check(asked, inverter.G, inverter.domain)

    def keep(name: str, crop: Image.Image, result: Inversion, G, note: dict[str, str]) -> Pastes:
        if strengths:
            return _write_grid(out, name, crop, result, G, edits, strengths, note, paste)
        return _write_edits(out, name, crop, result, G, edits, strength, note)

    def results(size: int) -> finished.Results:
        asked = digest(
            *(x for each in edits for x in (each.label, each.strength, each.direction)), strengths or strength
        )
        endings = [_ending(each, strength) for each in edits]
        if strengths:
            return finished.Results([f"{_grid(edits)}.safetensors", f"{_grid(edits)}.png"], asked)
        each = [f"{ending}-{size}.png" for ending in endings] + [f"{ending}.safetensors" for ending in endings]
        return finished.Results([*each, f"{_together(endings)}-strip.png"], asked)

    effort = _effort(quality, optimize, photos)
    return _each(photos, steps, effort, inverter, aligned, out, keep, face, paste, None if paste else results)


def _range(words: str) -> list[float]:
    """LOW:HIGH:COUNT -> that many strengths from one to the other."""
    try:
        first, last, number = words.split(":")
        low, high, count = float(first), float(last), int(number)
    except ValueError:
        raise ValueError(f"--range={words} is not LOW:HIGH:COUNT, such as --range=-2:2:5") from None
    if not 2 <= count <= MOST_COLUMNS or not np.isfinite([low, high]).all():
        raise ValueError(f"a range has 2 to {MOST_COLUMNS} strengths between two numbers, not {words}")
    return (np.linspace(low, high, count).round(9) + 0.0).tolist()  # what is nearly 0 is 0, and not -0


def _effort(quality: Quality | None, optimize: int | None, photos: list[Path]) -> Effort:
    """One word as numbers; who waits at a terminal for one photograph gets a good one."""
    alone = len(photos) == 1 and not photos[0].is_dir()
    if optimize is not None and optimize < 0:
        raise ValueError(f"--optimize is the number of steps of the search, 0 for none; not {optimize}")
    effort = QUALITY[quality or ("good" if alone and sys.stderr.isatty() else "fast")]
    return effort if optimize is None else effort._replace(search=optimize)


def align_photos(photos: tyro.conf.Positional[list[Path]], out: Path, size: int = 1024, face: str = "1") -> int:
    """Cuts FFHQ's square around faces, for training, or for `--aligned`; writes out/NAME.png for each.

    photos: image files of any kind and size, or folders of them
    size:   px of the squares
    face:   which one of a photograph with several: 1 for the largest, 2 for the next …, or all of them
    A photograph that cannot be used is reported in one line and skipped; the exit code is then 1.
    """
    photos = common.files(photos)
    _check_out(out, [photo.parent for photo in photos])
    common.check_face(face, False, DOMAINS["faces"])
    if not 16 <= size <= 4096:
        raise ValueError(f"--size is from 16 to 4096 px, not {size}")
    out.mkdir(parents=True, exist_ok=True)
    done, skipped, names = 0, 0, set()
    for photo in tqdm(photos, unit="image"):
        try:
            _, crops = common.prepare(photo, DOMAINS["faces"], False, face, size)
        except PhotoError as error:
            common.say("skipped", photo, str(error))
            skipped += 1
        else:
            for crop, _ in crops:
                _save_image(crop, out / f"{_unique(photo.stem, names)}.png")
                done += 1
    print(f"{done} aligned into {out}" + (f", {skipped} skipped" if skipped else ""))
    return 1 if skipped else 0


def _each(
    photos: list[Path],
    steps: int,
    effort: Effort,
    inverter: Inverter,
    aligned: bool,
    out: Path,
    keep: Callable[..., Pastes],
    face: str = "1",
    paste: bool = False,
    results: Callable[[int], finished.Results] | None = None,
    tolerance: float = 0.0,
) -> int:
    """Inverts each photograph and gives keep(name, crop, result, G, note) what came of it; the exit code.

    paste:   what keep returns then goes back into the photograph, of all its faces into one
    results: the files that keep writes, of images of so many px: what of them is there already is not made again
    """
    _check_out(out, [photo for photo in photos if photo.is_dir()])
    photos = common.files(photos)
    common.check_face(face, aligned, inverter.domain)
    if paste and not inverter.domain.faces:
        raise ValueError(f"--paste is for faces, and the model is of {inverter.domain.name}")
    G = inverter.G.to(inverter.y_avg.device)
    if effort.tuning and not (isinstance(G, MobileGenerator) and can_average(G, (256, 256))):
        raise ValueError("best tunes the whole embedded generator, and this model has another: use --quality good")
    out.mkdir(parents=True, exist_ok=True)
    done, skipped, there, more, names = 0, 0, 0, 0, set()
    made = results(G.resolution[1]) if results else None
    settings = f"{digest(inverter)} {inverter.domain} {inverter.input_size} {inverter.from_mean} {inverter.decay} "
    settings += f"{steps} {effort} {aligned} {face} {tolerance}"
    if made:
        settings += made.settings
        made.files.extend(["-tuned.safetensors"] if effort.tuning else [])
    with tqdm(total=len(photos) * (steps + 1), unit="step") as progress, _ctrl_c() as pressed:
        for i, photo in enumerate(photos):
            progress.set_description(photo.name)
            key, following = finished.key_of(photo, settings) if made else "", set(names)
            if made and (earlier := finished.count(out, key, partial(_unique, photo.stem, following), made)):
                names, there = following, there + earlier
                progress.update(steps + 1)
                continue
            try:
                size = TUNED_SIZE if effort.tuning else PHOTO_SIZE
                seen = max(size, inverter.input_size[0])
                image, crops = common.prepare(photo, inverter.domain, aligned, face, size, seen)
            except PhotoError as error:
                common.say("skipped", photo, common.refusal(photo, error, inverter.G))
                skipped += 1
            else:
                more += len(crops) - 1
                progress.total += (len(crops) - 1) * (steps + 1)
                pasted, alone = {}, len(photos) == len(crops) == 1
                for crop, square in crops:
                    x, name, drawing = to_tensor(crop), _unique(photo.stem, names), G
                    result = inverter.invert(x, steps, lambda t, w, y: progress.update(), tolerance)
                    if effort.search:
                        # of several, Ctrl-C ends them all
                        result = hybrid(inverter, x, result, effort.search, interruptible=alone)
                    code = result.latents[:, -1]
                    if effort.tuning:
                        drawing = tune(G, code, x, effort.tuning, interruptible=alone)
                    note = finished.note("" if pressed else key, len(crops))
                    if effort.tuning:
                        save_tuned(out / f"{name}-tuned.safetensors", drawing, code, note)
                    for ending, (after, before) in keep(name, crop, result, drawing, note).items():
                        if paste:
                            whole, path = pasted.get(ending, (image, out / f"{name}{ending}-pasted.png"))
                            pasted[ending] = paste_back(whole, square, after, before), path
                            _save_image(*pasted[ending])
                    done += 1
            progress.update((i + 1 + more) * (steps + 1) - progress.n)
    said = [f"{done} inverted into {out}"]
    said += [f"{there} there already"] if there else []
    said += [f"{skipped} skipped"] if skipped else []
    print(", ".join(said))
    return 1 if skipped else 0


@contextmanager
def _ctrl_c() -> Iterator[list[int]]:
    """Gives a list that gets an entry with each Ctrl-C, which does what it always does: a search ends by it, or all."""
    pressed: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):  # a job in the background of a shell hears none
        yield pressed
        return

    def note(number: int, frame) -> None:
        pressed.append(number)
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _check_out(out: Path, folders: list[Path]) -> None:
    """Raises ValueError where results would lie among photographs: in place of them, or taken for them next time."""
    if any(folder.resolve() == out.resolve() for folder in folders):
        raise ValueError(f"{out} holds the photographs themselves: name another folder with --out")


def _unique(stem: str, taken: set[str]) -> str:
    """`stem`, or stem-2, stem-3 … where a photograph of the same name came before in this call.

    Cut where endings would make it longer than a file's name may be. Names that differ in the case of letters, or in
    how an accent is written, are the same: to Windows and macOS they are one file.
    """
    stem = os.fsencode(stem).decode(errors="replace")  # names of old file systems need not be text
    name = stem = stem.encode()[:LONGEST_NAME].decode(errors="ignore")
    n = 1
    while (known := unicodedata.normalize("NFC", name).casefold()) in taken:
        n += 1
        name = f"{stem}-{n}"
    taken.add(known)
    return name


def _write_steps(
    out: Path, name: str, crop: Image.Image, result: Inversion, G, effort: Effort, note: dict[str, str]
) -> Tensor:
    """Returns the result at full size."""
    final = result.final(G)
    steps = result.latents.shape[1] - 1 - bool(effort.search)
    rows = figures.step_rows(to_tensor(crop), result.images, final)
    titles = figures.step_titles(steps, G.resolution[1], effort.search)
    titles[-1] = f"tuned,\n{titles[-1]}" if effort.tuning else titles[-1]
    strip = figures.image_grid(rows, titles)
    _save_strip(strip, out / f"{name}-steps.png", note)
    _save_image(to_image(final), out / f"{name}-{G.resolution[1]}.png", note)
    _save_image(crop, out / f"{name}-input.png", note)
    _save_latents(result.latents[0], out / f"{name}.safetensors", note)
    return final


def _write_edits(
    out: Path,
    name: str,
    crop: Image.Image,
    result: Inversion,
    G,
    edits: list[editing.Edit],
    strength: float,
    note: dict[str, str],
) -> Pastes:
    """Each edit in full, and one strip of them all. Returns the edits."""
    inverted, pastes, found = result.final(G), {}, {}
    for asked in edits:
        ending = _ending(asked, strength)
        found[ending] = editing.edit(result.latents[:, -1], asked.direction, asked.strength or strength)
        edited = Inversion(found[ending][:, None], result.images).final(G)
        _save_image(to_image(edited), out / f"{name}{ending}-{G.resolution[1]}.png", note)
        pastes[ending] = edited, inverted
    row = figures.side_by_side([to_tensor(crop)[0], inverted[0], *(edited[0] for edited, _ in pastes.values())], 512)
    titles = ["input", "inverted", *(ending[1:].replace(",", ", ") for ending in pastes)]
    _save_strip(figures.image_grid([row], titles, cell=3), out / f"{name}{_together(list(pastes))}-strip.png", note)
    for ending, codes in found.items():
        _save_latents(codes, out / f"{name}{ending}.safetensors", note)
    return pastes


def _ending(asked: editing.Edit, strength: float) -> str:
    """What the names of an edit's files add to the photograph's."""
    return f"-{asked.label}" + ("" if asked.strength else f"{strength:+g}")


def _together(endings: list[str]) -> str:
    """What the name of the strip of these edits adds."""
    return endings[0] if len(set(endings)) == 1 else "-edits"


def _grid(edits: list[editing.Edit]) -> str:
    """What the names of a grid's files add."""
    return f"-{edits[0].label if len(edits) == 1 else 'edits'}-grid"


def _write_grid(
    out: Path,
    name: str,
    crop: Image.Image,
    result: Inversion,
    G,
    edits: list[editing.Edit],
    strengths: list[float],
    note: dict[str, str],
    paste: bool,
) -> Pastes:
    """A row for each edit, a column for each strength, and the codes. To `paste`, returns what changes something."""
    inverted, rows, pastes, codes = result.final(G), [], {}, []
    for asked in edits:
        row = [to_tensor(crop)[0]]
        for strength in strengths:
            codes.append(editing.edit(result.latents[:, -1], asked.direction, strength)[0])
            edited = Inversion(codes[-1][None, None], result.images).final(G) if strength else inverted
            row.append(figures.side_by_side([edited[0]])[0])
            if strength and paste:
                pastes[f"-{asked.label}{'x' if asked.strength else ''}{strength:+g}"] = edited, inverted
        rows.append(figures.side_by_side(row, 256))
    labels = [asked.label.replace(",", ", ") for asked in edits]
    grid = figures.image_grid(rows, ["input", *(f"{s:+g}" if s else "0" for s in strengths)], labels, cell=2)
    _save_strip(grid, out / f"{name}{_grid(edits)}.png", note)
    _save_latents(torch.stack(codes).unflatten(0, (len(edits), -1)), out / f"{name}{_grid(edits)}.safetensors", note)
    return pastes


def _save_strip(strip: figures.plt.Figure, path: Path, note: dict[str, str]) -> None:
    save_atomically(lambda temporary: strip.savefig(temporary, format="png", metadata=note), path)
    figures.plt.close(strip)


def _save_image(image: Image.Image, path: Path, note: dict[str, str] | None = None) -> None:
    words = PngInfo()
    for key, value in (note or {}).items():
        words.add_text(key, value)
    save_atomically(lambda temporary: image.save(temporary, "PNG", pnginfo=words), path)


def _save_latents(latents: Tensor, path: Path, note: dict[str, str]) -> None:
    save_atomically(lambda temporary: save_file({"latents": latents.contiguous()}, temporary, note), path)


def convert(
    checkpoint: tyro.conf.Positional[Path],
    out: tyro.conf.Positional[Path],
    domain: str | None = None,
    input_size: str | None = None,
) -> None:
    """Converts a checkpoint to safetensors that carry its settings: smaller, quicker to open, and safe to pass on.

    checkpoint: an official pSp, e4e or ReStyle .pt, a StyleGAN2 of rosinality's converter, or NVIDIA's .pkl of
                StyleGAN2-ADA or StyleGAN3
    out:        the file to write; `--model` and rl.load_inverter or rl.load_generator open it
    domain, input_size: as for `restyle invert`, kept in the file
    """
    if out.exists() and out.samefile(checkpoint):
        raise ValueError(f"{out} is the checkpoint itself: name another file")
    size = size_of(input_size) if input_size else None
    print(f"wrote {out}: the {convert_checkpoint(checkpoint, out, domain, size)} of {checkpoint.name}")


def check_assets() -> int:
    """Fetches what is missing and verifies every shipped and fetched file by its SHA-256."""
    problems = assets.verify()
    print("\n".join(problems) if problems else f"all {len(assets.SHIPPED) + len(assets.PACKAGES)} assets verified")
    return 1 if problems else 0


COMMANDS: dict[str, Callable[..., Any]] = {
    "invert": invert,
    "edit": edit,
    "film": film,
    "align": align_photos,
    "eval": evaluation.run,
    "compare": evaluation.compare,
    "convert": convert,
    "train": train.run,
    "assets": check_assets,
    "reproduce": reproduce.run,
}


def _one_line(message, category, filename, lineno, file=None, line=None) -> None:
    """Warnings of ours for people who did not write the code; those of other packages as Python shows them."""
    ours = category is UserWarning and "restyle_lib" in str(filename)
    text = f"note: {message}" if ours else warnings.formatwarning(message, category, filename, lineno, line).rstrip()
    tqdm.write(text, file=sys.stderr)


def main() -> None:
    """Entry point: runs a command; an expected failure is one line on stderr and exit code 2, a warning one line."""
    warnings.showwarning = _one_line
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr is: names of files may hold what no terminal can show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        result = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="restyle")
    except (assets.AssetError, FloatingPointError, MemoryError, OSError, ValueError) as error:
        print(f"restyle: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("restyle: stopped", file=sys.stderr)
        sys.exit(130)
    if isinstance(result, Path):
        print(f"wrote {result}")
    sys.exit(result if isinstance(result, int) else 0)


if __name__ == "__main__":
    main()
