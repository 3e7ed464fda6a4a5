"""The command `restyle`."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from safetensors.torch import save_file
from tqdm import tqdm

from restyle_lib import assets, figures, reproduce, train
from restyle_lib.data import save_atomically
from restyle_lib.faces.align import align
from restyle_lib.generators import load_generator
from restyle_lib.images import PhotoError, open_photo, to_image, to_tensor
from restyle_lib.inversion.inverter import load_inverter

PHOTO_SIZE = 256  # px of the aligned crop that an inversion starts from and that the strip shows


@dataclass
class Outcome:
    """What became of the photographs of one call."""

    done: int = 0
    skipped: int = 0


def invert(
    photos: tyro.conf.Positional[list[Path]],
    out: Path,
    steps: int = 5,
    model: str = "faces/restyle-psp",
    aligned: bool = False,
) -> int:
    """Inverts photographs; writes for each a step strip, the 1024 px result, the aligned crop and the latents.

    photos:  image files of any kind and size
    out:     folder, made where missing: NAME-steps.png, NAME-1024.png, NAME-input.png, NAME.safetensors
    steps:   refinement steps N
    model:   a shipped inverter or a .safetensors file
    aligned: the photographs are FFHQ-aligned squares already
    A photograph that cannot be used is reported in one line and skipped; the exit code is then 1.
    """
    inverter, G = load_inverter(model), load_generator("faces-1024")
    out.mkdir(parents=True, exist_ok=True)
    outcome, names = Outcome(), set()
    with tqdm(total=len(photos) * (steps + 1), unit="step") as progress:
        for photo in photos:
            progress.set_description(photo.name)
            goal = progress.n + steps + 1
            try:
                image = open_photo(photo)
                crop = image.resize((PHOTO_SIZE, PHOTO_SIZE)) if aligned else align(image, PHOTO_SIZE)
            except PhotoError as error:
                message = str(error) if str(photo) in str(error) else f"{photo}: {error}"
                tqdm.write(f"skipped {message}", file=sys.stderr)
                outcome.skipped += 1
            else:
                name = _unique(photo.stem, names)
                result = inverter.invert(to_tensor(crop), steps, lambda t, w, y: progress.update())
                _write(out, name, crop, result, G)
                outcome.done += 1
            progress.update(goal - progress.n)
    print(f"{outcome.done} inverted into {out}" + (f", {outcome.skipped} skipped" if outcome.skipped else ""))
    return 1 if outcome.skipped else 0


def _unique(stem: str, taken: set[str]) -> str:
    """`stem`, or stem-2, stem-3 … where a photograph of the same name came before in this call."""
    name, n = stem, 1
    while name in taken:
        n += 1
        name = f"{stem}-{n}"
    taken.add(name)
    return name


def _write(out: Path, name: str, crop, result, G) -> None:
    final = result.final(G)
    steps = result.latents.shape[1] - 1
    row = figures.step_rows(to_tensor(crop), result.images, final)
    strip = figures.image_grid(row, figures.step_titles(steps))
    save_atomically(lambda path: strip.savefig(path, format="png"), out / f"{name}-steps.png")
    figures.plt.close(strip)
    save_atomically(lambda path: to_image(final).save(path, "PNG"), out / f"{name}-1024.png")
    save_atomically(lambda path: crop.save(path, "PNG"), out / f"{name}-input.png")
    latents = {"latents": result.latents[0].contiguous()}
    save_atomically(lambda path: save_file(latents, path), out / f"{name}.safetensors")


def check_assets() -> int:
    """Fetches what is missing and verifies every shipped and fetched file by its SHA-256."""
    problems = assets.verify()
    print("\n".join(problems) if problems else f"all {len(assets.SHIPPED) + len(assets.WHEELS)} assets verified")
    return 1 if problems else 0


COMMANDS = {"invert": invert, "train": train.run, "assets": check_assets, "reproduce": reproduce.run}


def main() -> None:
    """Entry point: runs a command; an expected failure is one line on stderr and exit code 2."""
    try:
        result = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="restyle")
    except (assets.AssetError, FloatingPointError, OSError, ValueError) as error:
        sys.exit(f"restyle: {error}")
    sys.exit(result if isinstance(result, int) else 0)


if __name__ == "__main__":
    main()
