"""Every data set's own layout is read, whatever is wrong in it; batches depend on seed and step alone."""

import csv
import os
import zipfile

import pytest
import torch
from PIL import Image

import restyle_lib as rl
from restyle_lib.checkpoints.domains import DOMAINS
from restyle_lib.making import stand_ins as official
from restyle_lib.training.sources import collection, generator_for
from restyle_lib.training.sources.photographs import Photographs

# What the archives of each data set unpack to: image files as they name them, with sizes, and what else lies there.
LAYOUTS = {
    "FFHQ": ("faces", "images1024x1024/{:02d}000/{:05d}.png", (1024, 1024), ["images1024x1024/LICENSE.txt"]),
    "CelebA-HQ": ("faces", "CelebAMask-HQ/CelebA-HQ-img/{1}.jpg", (1024, 1024), ["CelebAMask-HQ/README.txt"]),
    "Stanford Cars": ("cars", "cars_train/{1:05d}.jpg", (640, 426), ["devkit/cars_train_annos.mat"]),
    "LSUN church": ("church", "church_outdoor_train/a/b/{1:040x}.webp", (341, 256), []),
    "LSUN horse": ("horse", "{1:06d}.jpg", (256, 384), []),
    "AFHQ wild": ("wild", "train/wild/flickr_wild_{1:06d}.jpg", (512, 512), ["README.md"]),
}
COUNT = 5


def write_tree(folder, layout: str):
    """Five images of the layout, coloured by their number, and the other files; returns the domain."""
    domain, pattern, size, others = LAYOUTS[layout]
    for i in range(COUNT):
        path = folder / pattern.format(i, i)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (50 * i, 255 - 50 * i, 100)).save(path)
    for other in others:
        (folder / other).parent.mkdir(parents=True, exist_ok=True)
        (folder / other).write_text("not an image")
    return DOMAINS[domain]


def pack(folder, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


class Blank:
    """A generator of the right size that makes grey images: what is tested here are the images beside it."""

    def __init__(self, width: int):
        self.resolution, self.w_avg = (width, width), torch.zeros(512)
        self.n_styles = self.slots_read = 4
        self.map = None

    def synthesize(self, codes):
        return torch.zeros(len(codes), 3, *self.resolution)


def photographs(path, domain, **options) -> Photographs:
    return Photographs(Blank(domain.output_size), domain, path, **{"validation": 1} | options)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RESTYLE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_data_set_is_read_as_it_comes_as_folder_and_as_zip(layout, tmp_path):
    domain = write_tree(tmp_path / "set", layout)
    folder = photographs(tmp_path / "set", domain)
    archive = photographs(pack(tmp_path / "set", tmp_path / "set.zip"), domain)
    assert len(folder.files) == COUNT - 1 and folder.files == archive.files
    x, codes, _ = folder.batch(generator_for(0, 0), 3)
    assert x.shape == (3, 3, *domain.input_size) and x.min() >= -1 and x.max() <= 1 and codes.isnan().all()
    assert torch.equal(x, archive.batch(generator_for(0, 0), 3)[0])
    assert torch.equal(folder.validation.x, archive.validation.x) and len(folder.validation.x) == 1


def test_what_cannot_be_used_is_listed_and_left_out(tmp_path, capsys):
    folder = tmp_path / "wild"
    write_tree(folder, "AFHQ wild")
    noise = Image.effect_noise((512, 512), 60)
    noise.save(folder / "grey.png")
    noise.convert("I;16").save(folder / "depth.png")
    noise.convert("1").save(folder / "mask.png")
    noise.resize((512, 100)).save(folder / "flat.png")
    (folder / "text.jpg").write_text("not a picture")
    (folder / "empty.jpg").touch()
    noise.save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:2000])
    pool = photographs(folder, DOMAINS["wild"], report=tmp_path / "images.csv")
    with (tmp_path / "images.csv").open() as file:
        listed = {row["file"]: (row["what"], row["why"]) for row in csv.DictReader(file)}
    assert set(listed) == {f"{name}.png" for name in ("grey", "depth", "mask", "flat")} | {
        f"{name}.jpg" for name in ("text", "empty", "cut")
    }
    assert listed["grey.png"] == ("converted", "mode L, converted to RGB")
    assert all(what == "left out" for name, (what, _) in listed.items() if name != "grey.png")
    assert "mode I" in listed["depth.png"][1] and "512 x 100" in listed["flat.png"][1]
    assert "truncated" in listed["cut.jpg"][1] and "empty" in listed["empty.jpg"][1]
    assert len(pool.files) + len(pool.validation.x) == COUNT + 1
    assert "6 of 12 images can be used; 6 left out, 1 converted" in capsys.readouterr().out


def test_unaligned_faces_and_empty_sources_are_refused(tmp_path):
    Image.new("RGB", (300, 400)).save(tmp_path / "portrait.jpg")
    with pytest.raises(ValueError, match="0 usable images; training needs at least two"):
        photographs(tmp_path, DOMAINS["faces"])
    with pytest.raises(ValueError, match="no such folder or zip"):
        photographs(tmp_path / "missing", DOMAINS["faces"])
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match="not a zip archive, or a truncated one"):
        photographs(tmp_path / "broken.zip", DOMAINS["faces"])


def test_a_generator_of_another_size_is_noticed(horses):
    with pytest.warns(UserWarning, match="horse are made at 256 px as a rule, by this generator at 512"):
        assert Photographs(Blank(512), DOMAINS["horse"], horses, 1).average_image.shape == (3, 256, 256)


def test_the_check_is_kept_until_a_file_changes(tmp_path, monkeypatch):
    folder = tmp_path / "horse"
    write_tree(folder, "LSUN horse")
    looked = []
    true_open = collection.open_photo
    monkeypatch.setattr(
        collection, "open_photo", lambda file, whole: looked.append(file.name) or true_open(file, whole)
    )
    for source in (folder, pack(folder, tmp_path / "horse.zip")):
        looked.clear()
        first = collection.facts(collection.collection(source))
        assert len(looked) == COUNT and all(found["width"] == 256 for found in first.values())
        assert collection.facts(collection.collection(source)) == first and len(looked) == COUNT
    looked.clear()
    os.utime(folder / "000003.jpg", (1, 1))
    (folder / "000004.jpg").write_text("no longer a picture")
    assert "error" in collection.facts(collection.Folder(folder))["000004.jpg"] and len(looked) == 2


def test_an_interrupted_check_keeps_what_it_has_seen(tmp_path, monkeypatch):
    folder = tmp_path / "horse"
    write_tree(folder, "LSUN horse")
    true_open, looked = collection.open_photo, []

    def interrupted(file, whole):
        looked.append(file.name)
        if len(looked) == 3:
            raise KeyboardInterrupt
        return true_open(file, whole)

    monkeypatch.setattr(collection, "open_photo", interrupted)
    with pytest.raises(KeyboardInterrupt):
        collection.facts(collection.Folder(folder))
    assert len(collection.facts(collection.Folder(folder))) == COUNT and len(looked) == 1 + COUNT


@pytest.fixture
def horses(tmp_path):
    write_tree(tmp_path / "horse", "LSUN horse")
    return tmp_path / "horse"


def draw(source, iterations, n=3, workers=0, share=slice(None), seed=0) -> list[torch.Tensor]:
    pool = photographs(source, DOMAINS["horse"], workers=workers)
    return [pool.batch(generator_for(seed, i), n, share)[0] for i in iterations]


def test_batches_depend_on_seed_and_step_alone(horses, tmp_path):
    """Not on workers, on where a run was resumed, on the number of processes, or on folder or zip."""
    whole = torch.stack(draw(horses, range(6)))
    assert torch.equal(torch.stack(draw(horses, range(6), workers=2)), whole)
    assert torch.equal(torch.stack(draw(pack(horses, tmp_path / "h.zip"), range(6), workers=2)), whole)
    assert torch.equal(torch.stack(draw(horses, [4, 5, 1])), whole[[4, 5, 1]])
    halves = [draw(horses, range(6), share=slice(i, None, 2)) for i in range(2)]
    assert torch.equal(torch.stack(halves[0]), whole[:, 0::2]) and torch.equal(torch.stack(halves[1]), whole[:, 1::2])
    assert not torch.equal(torch.stack(draw(horses, range(6), seed=1)), whole)


def test_an_epoch_shows_every_image_once_and_mirrors_some(tmp_path):
    folder = tmp_path / "horse"
    folder.mkdir()
    for i in range(5):  # dark on the left, and of a brightness of its own
        image = Image.new("RGB", (256, 256), (60 + 40 * i,) * 3)
        image.paste((0, 0, 0), (0, 0, 128, 256))
        image.save(folder / f"{i}.png")
    batches = draw(folder, range(20), n=4)  # four images: the fifth is for validation
    for x in batches:
        assert len({round(v.item(), 3) for v in x.amax((1, 2, 3))}) == 4
    mirrored = torch.cat(batches)[:, :, :, 0].amax((1, 2)) > -1
    assert 20 < mirrored.sum() < 60


def test_an_image_that_breaks_later_is_replaced_and_reported(horses, capfd):
    pool = photographs(horses, DOMAINS["horse"])
    before = pool.batch(generator_for(0, 0), 4)[0]
    (horses / pool.files[1]).unlink()
    after, again = (pool.batch(generator_for(0, 0), 4)[0] for _ in range(2))
    assert after.shape == before.shape and not torch.equal(after, before) and torch.equal(after, again)
    assert pool.files[1] in capfd.readouterr().err
    for name in pool.files:
        (horses / name).unlink(missing_ok=True)
    with pytest.raises(rl.PhotoError, match="is the disk still there"):
        pool.batch(generator_for(0, 1), 4)


def test_hostile_archives_do_no_harm(tmp_path):
    """A path that climbs out, a bomb that unpacks to 200 MB, a picture of 400 megapixels, a damaged and a false one."""
    good = tmp_path / "good.png"
    Image.new("RGB", (256, 256)).save(good)
    bomb = Image.new("1", (20000, 20000))
    bomb.save(tmp_path / "pixels.png")
    hostile = tmp_path / "in" / "hostile.zip"
    hostile.parent.mkdir()
    with zipfile.ZipFile(hostile, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(good, "../../escaped.png")
        archive.writestr("bomb.png", bytes(200 * 2**20))
        archive.write(tmp_path / "pixels.png", "pixels.png")
        for name in ("a.png", "b.png", "damaged.png"):
            archive.write(good, name)
    content = hostile.read_bytes()
    place = content.rindex(b"damaged.png", 0, content.index(b"PK\x01\x02")) + 60
    hostile.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
    found = collection.facts(collection.collection(hostile))
    assert {name for name, fact in found.items() if "error" not in fact} == {"a.png", "b.png"}
    assert "larger than 100 MB" in found["bomb.png"]["error"] and "megapixels" in found["pixels.png"]["error"]
    assert "unpacked" in found["damaged.png"]["error"] or "damaged" in found["damaged.png"]["error"]
    assert not list(tmp_path.glob("**/escaped.png")) and not (tmp_path.parent / "escaped.png").exists()
    pool = photographs(hostile, DOMAINS["horse"])
    assert [*pool.files] == ["a.png"]


def test_a_member_that_lies_about_its_size_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "LARGEST", 1000)
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(5000))
    with pytest.raises(rl.PhotoError, match="larger than"):
        collection.Archive(tmp_path / "z.zip").open("a.png")


def test_names_of_the_layouts_cover_all_domains():
    assert {domain for domain, *_ in LAYOUTS.values()} == set(DOMAINS) - {"toonify"}  # which is trained on FFHQ
    assert set(official.DATASETS) == set(DOMAINS)


def test_links_are_followed_but_not_round_in_circles(tmp_path):
    write_tree(tmp_path / "elsewhere" / "horse", "LSUN horse")
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere" / "horse")
    expected = collection.Folder(tmp_path / "elsewhere" / "horse").files()
    assert len(expected) == COUNT and collection.Folder(tmp_path / "linked").files() == expected
    together = tmp_path / "together"
    together.mkdir()
    (together / "horses").symlink_to(tmp_path / "elsewhere" / "horse")
    (together / "one.jpg").symlink_to(tmp_path / "elsewhere" / "horse" / "000001.jpg")
    (tmp_path / "elsewhere" / "horse" / "again").symlink_to(together)  # a loop of two
    (together / "itself").symlink_to(together)
    names = {f"horses/{name}" for name in expected} | {"one.jpg"}
    assert set(collection.Folder(together).files()) == names


def test_a_run_is_not_continued_on_other_images(horses, tmp_path):
    same = photographs(pack(horses, tmp_path / "h.zip"), DOMAINS["horse"])
    state = photographs(horses, DOMAINS["horse"]).state_dict()
    same.load_state_dict(state)  # a folder and its zip archive are the same images
    Image.new("RGB", (256, 256)).save(horses / "another.png")
    with pytest.raises(ValueError, match="learned from 4 other images than these 5.*--no-resume"):
        photographs(horses, DOMAINS["horse"]).load_state_dict(state)
