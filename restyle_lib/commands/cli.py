"""The command `restyle`."""

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import tyro
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from restyle_lib import assets, train
from restyle_lib.checkpoints.domains import DOMAINS, Domain, size_of
from restyle_lib.commands import evaluate as evaluation
from restyle_lib.commands import reproduce
from restyle_lib.commands.film import film
from restyle_lib.faces.align import NoFaceError, align, align_all
from restyle_lib.faces.detect import find_faces
from restyle_lib.generators.mobile import MobileGenerator
from restyle_lib.generators.stylegan3 import StyleGAN3
from restyle_lib.images import PhotoError, open_photo, to_image, to_tensor
from restyle_lib.inversion import edit as editing
from restyle_lib.inversion.inverter import FOR_PHOTOGRAPHS, Inverter, load_inverter
from restyle_lib.inversion.inverter import convert as convert_checkpoint
from restyle_lib.inversion.optimize import hybrid
from restyle_lib.inversion.quality import PHOTO_SIZE, QUALITY, TUNED_SIZE, Effort, Quality
from restyle_lib.inversion.result import Inversion
from restyle_lib.inversion.tune import save_tuned, tune
from restyle_lib.paths import save_atomically
from restyle_lib.precision import device_named
from restyle_lib.reporting import figures

# what counts in a folder
PHOTOS = {".avif", ".bmp", ".gif", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
LONGEST_NAME = 150  # bytes of a photograph's name that its results are named after


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
) -> int:
    """Inverts photographs; writes for each a step strip, the result at full size, the crop it saw, and the latents.

    photos:  image files of any kind and size, or folders of them
    out:     folder, made where missing: NAME-steps.png, NAME-1024.png, NAME-input.png, NAME.safetensors
    quality: "fast", the encoder's steps, a second a photograph; "good", a search for a better code that begins there,
             ten seconds on two cores; "best", the generator is tuned to it too, half a minute, and saved as
             NAME-tuned.safetensors, which rl.load_generator opens. Without it: good for a single photograph at a
             terminal, else fast
    steps:   refinement steps N
    optimize: steps of the search, where not those of the quality (the paper's hybrid); 0 for none. Ctrl-C ends it and
             keeps the best so far
    model:   a shipped inverter, an official pSp, e4e or ReStyle checkpoint, or a .safetensors file
    aligned: the photographs are cropped already
    domain:  what a checkpoint is of, where it does not say so rightly: faces, cars, church, horse, wild, toonify or own
    input_size: height x width of what its encoder sees, e.g. 256 or 192x256, where that is not the domain's
    device:  cpu, cuda or cuda:1; without it, the first GPU where there is one
    face:    which one of a photograph with several: 1 for the largest, 2 for the next …, or all of them
    A photograph that cannot be used is reported in one line and skipped; the exit code is then 1.
    """

    effort = _effort(quality, optimize, photos)

    def keep(name: str, crop: Image.Image, result: Inversion, G) -> None:
        _write_steps(out, name, crop, result, G, effort)

    inverter = _opened(model, domain, input_size, device)
    return _each(photos, steps, effort, inverter, aligned, out, keep, face)


def edit(
    photos: tyro.conf.Positional[list[Path]],
    out: Path,
    direction: str,
    strength: float = 2.0,
    quality: Quality | None = None,
    steps: int = 5,
    optimize: int | None = None,
    model: str = FOR_PHOTOGRAPHS,
    aligned: bool = False,
    domain: str | None = None,
    input_size: str | None = None,
    device: str | None = None,
    face: str = "1",
) -> int:
    """Inverts photographs and edits them; writes for each the edit at full size, a strip of what led to it, the code.

    photos:    image files of any kind and size, or folders of them
    out:       folder, made where missing: NAME-DIRECTION+2-strip.png, …-1024.png, ….safetensors
    direction: smile, age, pose, gender or nod; or a file (.pt, .npy, .safetensors) of a direction, [512] or [k, 512]
    strength:  in standard deviations of the attribute among the generator's faces, or times the direction of a file;
               below 0 the other way
    The others, and photographs that cannot be used, are as for `restyle invert`. Raises ValueError for a model that is
    not of faces, whose W has other directions, and for a file that holds none that fits.
    """
    # what is wrong with the direction is said before anything takes time
    own = editing.load_direction(Path(direction)) if editing.is_file(direction) else None
    if own is None:
        editing.edit(torch.zeros(1, 512), direction)
    inverter = _opened(model, domain, input_size, device)
    if own is None and not inverter.domain.faces:
        raise ValueError(f"{model} is of {inverter.domain.name}; {direction} is a direction of faces")
    if isinstance(inverter.G, StyleGAN3):
        raise ValueError(f"{model} is of StyleGAN3, whose W is another one than that of the direction {direction}")
    editing.edit(torch.zeros(1, inverter.G.n_styles, 512), direction if own is None else own)
    called = direction if own is None else Path(direction).stem

    def keep(name: str, crop: Image.Image, result: Inversion, G) -> None:
        _write_edit(out, f"{name}-{called}{strength:+g}", crop, result, G, called, own, strength)

    return _each(photos, steps, _effort(quality, optimize, photos), inverter, aligned, out, keep, face)


def _effort(quality: Quality | None, optimize: int | None, photos: list[Path]) -> Effort:
    """One word as numbers; who waits at a terminal for one photograph gets a good one."""
    alone = len(photos) == 1 and not photos[0].is_dir()
    effort = QUALITY[quality or ("good" if alone and sys.stderr.isatty() else "fast")]
    return effort if optimize is None else effort._replace(search=optimize)


def align_photos(photos: tyro.conf.Positional[list[Path]], out: Path, size: int = 1024, face: str = "1") -> int:
    """Cuts FFHQ's square around faces, for training, or for `--aligned`; writes out/NAME.png for each.

    photos: image files of any kind and size, or folders of them
    size:   px of the squares
    face:   which one of a photograph with several: 1 for the largest, 2 for the next …, or all of them
    A photograph that cannot be used is reported in one line and skipped; the exit code is then 1.
    """
    photos = _files(photos)
    _check_face(face)
    if not 16 <= size <= 4096:
        raise ValueError(f"--size is from 16 to 4096 px, not {size}")
    out.mkdir(parents=True, exist_ok=True)
    done, skipped, names = 0, 0, set()
    for photo in tqdm(photos, unit="image"):
        try:
            crops = _prepare(photo, DOMAINS["faces"], False, face, size)
        except PhotoError as error:
            _say("skipped", photo, str(error))
            skipped += 1
        else:
            for crop in crops:
                _save_image(crop, out / f"{_unique(photo.stem, names)}.png")
                done += 1
    print(f"{done} aligned into {out}" + (f", {skipped} skipped" if skipped else ""))
    return 1 if skipped else 0


def _opened(model: str, domain: str | None, input_size: str | None, device: str | None) -> Inverter:
    where = device_named(device)
    return load_inverter(model, domain, size_of(input_size) if input_size else None).to(where)


def _each(
    photos: list[Path],
    steps: int,
    effort: Effort,
    inverter: Inverter,
    aligned: bool,
    out: Path,
    keep: Callable[..., None],
    face: str = "1",
) -> int:
    """Inverts each photograph and gives keep(name, crop, result, G) what came of it; the exit code."""
    photos = _files(photos)
    _check_face(face)
    G = inverter.full_generator().to(inverter.y_avg.device)
    if effort.tuning and not isinstance(G, MobileGenerator):
        raise ValueError("best tunes the embedded generator, and this model has one of its own: use --quality good")
    out.mkdir(parents=True, exist_ok=True)
    done, skipped, more, names = 0, 0, 0, set()
    with tqdm(total=len(photos) * (steps + 1), unit="step") as progress:
        for i, photo in enumerate(photos):
            progress.set_description(photo.name)
            try:
                crops = _prepare(photo, inverter.domain, aligned, face, TUNED_SIZE if effort.tuning else PHOTO_SIZE)
            except PhotoError as error:
                advice = ""
                if isinstance(error, NoFaceError) and not isinstance(inverter.G, MobileGenerator):
                    advice = "; if the model is not of faces, say so: --domain own"
                _say("skipped", photo, f"{error}{advice}")
                skipped += 1
            else:
                more += len(crops) - 1
                progress.total += (len(crops) - 1) * (steps + 1)
                for crop in crops:
                    x, name, drawing = to_tensor(crop), _unique(photo.stem, names), G
                    result = inverter.invert(x, steps, lambda t, w, y: progress.update())
                    if effort.search:
                        # of several photographs, Ctrl-C ends them all
                        result = hybrid(inverter, x, result, effort.search, interruptible=len(photos) == 1)
                    if effort.tuning:
                        code = result.latents[:, -1]
                        drawing = tune(G, code, x, effort.tuning)
                        save_tuned(out / f"{name}-tuned.safetensors", drawing, code)
                    keep(name, crop, result, drawing)
                    done += 1
            progress.update((i + 1 + more) * (steps + 1) - progress.n)
    print(f"{done} inverted into {out}" + (f", {skipped} skipped" if skipped else ""))
    return 1 if skipped else 0


def _files(photos: list[Path]) -> list[Path]:
    """The photographs named, and what is called like one in each folder that is. Raises ValueError for none at all."""
    found = [path for photo in photos for path in _inside(photo)]
    if not found:
        raise ValueError("no photographs given; name one or more image files, or a folder that has some")
    return found


def _inside(photo: Path) -> list[Path]:
    """The photographs in a folder, or the path itself where it is none that can be looked into: opening it says why."""
    try:
        return sorted(path for path in photo.iterdir() if _is_photo(path))
    except (OSError, ValueError):
        return [photo]


def _is_photo(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in PHOTOS


def _check_face(face: str) -> None:
    if face != "all" and not (face.isdecimal() and int(face)):
        raise ValueError(f"--face is 1 for the largest, 2 for the next, and so on, or all; not {face}")


def _prepare(photo: Path, domain: Domain, aligned: bool, face: str, size: int = PHOTO_SIZE) -> list[Image.Image]:
    """What is to be inverted of a photograph, one or several faces of it; what to know about them is written."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")  # once for each photograph, not once for all
        image = open_photo(photo)
        if aligned or not domain.faces:
            crops = [(domain.cropped if aligned else domain.prepare)(image, size)]
        else:
            crops = align_all(image, size) if face == "all" else []
            crops = crops or [align(image, size, 1 if face == "all" else int(face))]
            if face == "1" and (count := len(find_faces(image))) > 1:
                warnings.warn(f"{count} faces, of which the largest is taken; see --face", stacklevel=1)
    for warning in said:
        _say("note:", photo, str(warning.message))
    return crops


def _say(kind: str, photo: Path, words: str) -> None:
    """One line about a photograph on stderr, whatever its name holds."""
    line = f"{kind} {words if str(photo) in words else f'{photo}: {words}'}"
    tqdm.write(" ".join(line.splitlines()), file=sys.stderr)


def _unique(stem: str, taken: set[str]) -> str:
    """`stem`, or stem-2, stem-3 … where a photograph of the same name came before in this call.

    Cut where endings would make it longer than a file's name may be.
    """
    stem = os.fsencode(stem).decode(errors="replace")  # names of old file systems need not be text
    name = stem = stem.encode()[:LONGEST_NAME].decode(errors="ignore")
    n = 1
    while name in taken:
        n += 1
        name = f"{stem}-{n}"
    taken.add(name)
    return name


def _write_steps(out: Path, name: str, crop: Image.Image, result: Inversion, G, effort: Effort) -> None:
    final = result.final(G)
    steps = result.latents.shape[1] - 1 - bool(effort.search)
    rows = figures.step_rows(to_tensor(crop), result.images, final)
    titles = figures.step_titles(steps, G.resolution[1], effort.search)
    titles[-1] = "tuned,\n" * bool(effort.tuning) + titles[-1]
    strip = figures.image_grid(rows, titles)
    _save_strip(strip, out / f"{name}-steps.png")
    _save_image(to_image(final), out / f"{name}-{G.resolution[1]}.png")
    _save_image(crop, out / f"{name}-input.png")
    _save_latents(result.latents[0], out / f"{name}.safetensors")


def _write_edit(
    out: Path,
    name: str,
    crop: Image.Image,
    result: Inversion,
    G,
    direction: str,
    own: Tensor | None,
    strength: float,
) -> None:
    codes = editing.edit(result.latents[:, -1], direction if own is None else own, strength)
    inverted, edited = result.final(G), Inversion(codes[:, None], result.images).final(G)
    row = figures.side_by_side([to_tensor(crop)[0], inverted[0], edited[0]], 512)
    titles = ["input", "inverted", f"{direction} {strength:+g}"]
    _save_strip(figures.image_grid([row], titles, cell=3), out / f"{name}-strip.png")
    _save_image(to_image(edited), out / f"{name}-{G.resolution[1]}.png")
    _save_latents(codes, out / f"{name}.safetensors")


def _save_strip(strip: figures.plt.Figure, path: Path) -> None:
    save_atomically(lambda temporary: strip.savefig(temporary, format="png"), path)
    figures.plt.close(strip)


def _save_image(image: Image.Image, path: Path) -> None:
    save_atomically(lambda temporary: image.save(temporary, "PNG"), path)


def _save_latents(latents: Tensor, path: Path) -> None:
    save_atomically(lambda temporary: save_file({"latents": latents.contiguous()}, temporary), path)


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
    size = size_of(input_size) if input_size else None
    print(f"wrote {out}: the {convert_checkpoint(checkpoint, out, domain, size)} of {checkpoint.name}")


def check_assets() -> int:
    """Fetches what is missing and verifies every shipped and fetched file by its SHA-256."""
    problems = assets.verify()
    print("\n".join(problems) if problems else f"all {len(assets.SHIPPED) + len(assets.PACKAGES)} assets verified")
    return 1 if problems else 0


COMMANDS = {
    "invert": invert,
    "edit": edit,
    "film": film,
    "align": align_photos,
    "eval": evaluation.run,
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
    sys.stdout.reconfigure(errors="backslashreplace")  # as stderr is: names of files may hold what no terminal can show
    try:
        result = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="restyle")
    except (assets.AssetError, FloatingPointError, MemoryError, OSError, ValueError) as error:
        print(f"restyle: {error}", file=sys.stderr)
        sys.exit(2)
    if isinstance(result, Path):
        print(f"wrote {result}")
    sys.exit(result if isinstance(result, int) else 0)


if __name__ == "__main__":
    main()
