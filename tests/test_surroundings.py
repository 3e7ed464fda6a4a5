"""What is around the program: no network, folders that cannot be written, a full disk, a neighbour, other systems."""

import ast
import errno
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from restyle_lib import assets, paths
from restyle_lib.commands import cli, evaluate
from restyle_lib.evaluation import sets
from restyle_lib.generators import render_sets
from restyle_lib.making.stand_ins import random_checkpoint
from restyle_lib.paths import REPOSITORY, keep, save_atomically

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
CHANGES |= {"shutil.copyfile", "shutil.move", "tempfile.mkdtemp", "tempfile.mkstemp"}
forbidden: dict[str, int] = {}  # folders in which nothing may change, and the error that says so
connected: list[str] = []


def refuse(event: str, arguments: tuple) -> None:
    """Fails what would change something in a forbidden folder, as its file system would, for root too."""
    if event in ("socket.connect", "socket.getaddrinfo"):
        connected.append(str(arguments[1] if event == "socket.connect" else arguments[0]))
    written = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES
    if not forbidden or not (written or event in CHANGES):
        return
    for path in arguments[: 1 if written else 2]:
        if isinstance(path, str | bytes | os.PathLike):
            where = os.path.abspath(os.fsdecode(path))
            for folder, code in forbidden.items():
                if where.startswith(folder + os.sep) or where == folder:
                    raise OSError(code, os.strerror(code), where)


sys.addaudithook(refuse)


@pytest.fixture
def forbid():
    """forbid(folder, code): from now on nothing in the folder can be made or changed."""
    yield lambda folder, code: forbidden.update({str(Path(folder).resolve()): code})
    forbidden.clear()


@pytest.fixture(scope="module")
def face() -> Image.Image:
    return sets.photographs()["Eileen Collins"].crop((90, 0, 390, 300))


@pytest.fixture(scope="module")
def church(tmp_path_factory) -> str:
    """A small model, for what is not about faces."""
    path = tmp_path_factory.mktemp("model") / "church.pt"
    torch.save(random_checkpoint("church", size=16, mapping=1), path)
    return str(path)


class Small:
    """A generator of 256 px that costs nothing."""

    w_avg, n_styles, slots_read = torch.zeros(512), 16, 16

    def map(self, z, psi):
        return z * psi

    def synthesize(self, codes):
        return codes[:, :1, :3, None].expand(-1, -1, -1, 256 * 256).reshape(-1, 3, 256, 256).clamp(-1, 1)


def renders(n: int = 4) -> render_sets.Renders:
    return render_sets.renders(Small(), "small", n, 5, render_sets.heldout_codes, shard=2)


def test_a_checkout_that_cannot_be_written_inverts_edits_and_converts(face, church, tmp_path, forbid):
    """Also the home folder: only the cache and what --out names are written."""
    face.save(tmp_path / "face.png")
    forbid(REPOSITORY, errno.EROFS)
    forbid(Path.home(), errno.EACCES)
    direction = tmp_path / "direction.pt"
    torch.save(torch.ones(512), direction)
    with pytest.raises(OSError):
        (REPOSITORY / "anything").write_text("")
    assert cli.invert([tmp_path / "face.png"], tmp_path / "out", steps=1, model=church, device="cpu") == 0
    assert cli.edit([tmp_path / "face.png"], tmp_path / "out", [str(direction)], steps=1, model=church) == 0
    cli.convert(Path(church), tmp_path / "church.safetensors")
    assert {"face-16.png", "face-direction+2-16.png"} <= {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only")])
def test_a_cache_that_cannot_be_written_costs_time_but_no_result(tmp_path, monkeypatch, forbid, code, words):
    monkeypatch.setenv("RESTYLE_CACHE", str(tmp_path / "kept"))
    expected = renders()
    monkeypatch.setenv("RESTYLE_CACHE", str(tmp_path / "full"))
    forbid(tmp_path / "full", code)
    with pytest.warns(UserWarning, match=f"full cannot be written .{words}.*set RESTYLE_CACHE"):
        found = renders()
    assert torch.equal(found.images, expected.images) and torch.equal(found.codes, expected.codes)
    assert not (tmp_path / "full").exists()
    with pytest.raises(assets.AssetError, match=f"no place in the cache .*full: {words}.*set RESTYLE_CACHE"):
        assets.fetch("random-face")


def test_a_disk_that_fills_while_it_is_written(tmp_path):
    """Whoever writes, the error is an OSError that names the file, and nothing is left."""

    def full(temporary) -> None:
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left on device: .*result.png"):
        save_atomically(full, tmp_path / "result.png")
    with pytest.raises(OSError, match=r"tensors.* cannot be written"):  # its library has errors of its own
        save_atomically(lambda path: save_file({"x": torch.zeros(1)}, path / "nowhere"), tmp_path / "tensors")
    with pytest.warns(UserWarning, match="nothing is kept"):
        keep(full, tmp_path / "kept")
    with pytest.raises(FileNotFoundError, match="read"):  # of a file that is read it says so
        save_atomically(lambda path: (tmp_path / "read").read_bytes(), tmp_path / "written")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_ends_an_inversion_in_one_line_and_the_next_goes_on(
    face, church, tmp_path, forbid, monkeypatch, capsys
):
    face.save(tmp_path / "face.png")
    out = tmp_path / "out"
    out.mkdir()
    words = ["restyle", "invert", tmp_path / "face.png", "--out", out, "--steps", 1, "--model", church]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    forbid(out, errno.ENOSPC)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert ended.value.code == 2 and "No space left on device" in said and "face-steps.png" in said
    forbidden.clear()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0 and len(list(out.iterdir())) == 4


def test_without_network_once_fetched(face, tmp_path):
    """Nothing connects, to anything, to invert, to edit and to measure; a name is not even looked up."""
    for name in assets.PACKAGES:
        assets.fetch(name)
    connected.clear()
    face.save(tmp_path / "face.png")
    (tmp_path / "only").mkdir()
    face.save(tmp_path / "only" / "face.png")
    assert cli.edit([tmp_path / "face.png"], tmp_path / "out", ["smile"], steps=1) == 0
    assert evaluate.run(["faces/psp"], tmp_path / "only", out=tmp_path / "table.csv") == 0
    assert evaluate.compare(tmp_path / "only", tmp_path / "only", 64) == 0
    assert not [where for where in connected if not where.startswith("/")], connected


def together(work, n: int = 2) -> list:
    """What n threads return that begin the same work at once."""
    ready, found, errors = threading.Barrier(n), [None] * n, []

    def one(i: int) -> None:
        ready.wait(10)
        try:
            found[i] = work()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    return found


def test_two_runs_share_the_cache(tmp_path, monkeypatch):
    """Both fetch, render and read at once; neither sees half of what the other writes."""
    monkeypatch.setenv("RESTYLE_CACHE", str(tmp_path))
    ready = threading.Barrier(2)

    def slowly(package, folder: Path) -> Path:
        ready.wait(10)  # both found nothing in the cache
        return folder

    def unpacked(package, path: Path, folder: Path) -> Path:
        folder.mkdir()
        for file in package.files:
            (folder / file).write_text("x")
        return folder

    monkeypatch.setattr(assets, "_download", slowly)
    monkeypatch.setattr(assets, "_unpack", unpacked)
    first, second = together(lambda: assets.fetch("random-face"))
    assert first == second and len(list(first.iterdir())) == 4
    first, second = together(lambda: renders(20))
    assert torch.equal(first.images, second.images) and torch.equal(first.codes, second.codes)
    assert len(list((tmp_path / "renders").rglob("*.safetensors"))) == 10
    assert not [path for path in tmp_path.rglob(".*") if path.name.startswith(".")], "nothing is left over"


def test_two_runs_share_a_folder_of_results(face, church, tmp_path, monkeypatch):
    """One that comes while the other is at its first photograph, and is faster: all of it is there, and whole."""
    for i in range(2):
        face.rotate(i).save(tmp_path / f"{i}.png")
    photos, write, others = sorted(tmp_path.glob("*.png")), cli._write_steps, []

    def run(out: str) -> dict[str, bytes]:
        assert cli.invert(photos, tmp_path / out, steps=1, model=church, device="cpu") == 0
        return {path.name: path.read_bytes() for path in (tmp_path / out).iterdir()}

    def overtaken(*words) -> torch.Tensor:
        if not others:
            others.append(1)
            run("both")
        return write(*words)

    expected = run("alone")
    monkeypatch.setattr(cli, "_write_steps", overtaken)
    assert run("both") == expected and others


def test_paths_with_spaces_and_letters_of_all_kinds(face, church, tmp_path):
    folder = tmp_path / "my photos, 2021 (ü, 写真)"
    folder.mkdir()
    face.save(folder / "a face – ž.png")
    model = folder / "my model.pt"
    model.write_bytes(Path(church).read_bytes())
    assert cli.invert([folder], folder / "out put", steps=1, model=str(model), device="cpu") == 0
    assert (folder / "out put" / "a face – ž-16.png").is_file()
    assert cli.align_photos([folder / "a face – ž.png"], folder / "aligned ones", 64) == 0


def test_another_locale_and_time_zone(face, church, tmp_path, monkeypatch):
    """Numbers keep their points, and codes are the same wherever the clock stands."""
    locale = pytest.importorskip("locale")
    before = locale.setlocale(locale.LC_ALL)
    face.save(tmp_path / "face.png")
    found = []
    for language, zone in (("C", "UTC"), ("de_DE.UTF-8", "Asia/Kathmandu"), ("tr_TR.UTF-8", "America/St_Johns")):
        monkeypatch.setenv("TZ", zone)
        if hasattr(time, "tzset"):
            time.tzset()
        try:
            locale.setlocale(locale.LC_ALL, language)
        except locale.Error:
            continue  # not on this machine
        out = tmp_path / language
        assert cli.invert([tmp_path / "face.png"], out, steps=1, model=church, device="cpu") == 0
        found.append({path.name: path.read_bytes() for path in out.iterdir()})
    locale.setlocale(locale.LC_ALL, before)
    monkeypatch.undo()
    if hasattr(time, "tzset"):
        time.tzset()
    assert all(each == found[0] for each in found)


def sources() -> list[Path]:
    return [path for room in ("restyle_lib", "benchmarks") for path in sorted((REPOSITORY / room).rglob("*.py"))]


# These read and write JSON and logs of their own alone, nearly all of it ASCII.
ASCII = {"making", "benchmarks"}


def test_text_is_utf_8_on_every_system():
    """Windows takes its own encoding where none is said, and `…` or a name in it comes out wrong or not at all."""
    wrong = []
    for path in sources():
        if ASCII & set(path.relative_to(REPOSITORY).parts[:2]):
            continue
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        for call in calls:
            reads = getattr(call.func, "attr", "") in ("read_text", "write_text")
            if reads and not any(keyword.arg == "encoding" for keyword in call.keywords):
                wrong.append(f"{path.relative_to(REPOSITORY)}:{call.lineno}")
    assert not wrong, "\n".join(wrong)


def test_nothing_is_of_one_system_alone():
    """Modules and calls that Windows or macOS lack stand behind a look whether they are there."""
    needed = re.compile(r"^\s*(import|from) (resource|fcntl|pwd|grp|termios|posix)\b", re.MULTILINE)
    calls = re.compile(
        r"os\.(fork|uname|getuid|geteuid|sched_getaffinity|mkfifo)\(|signal\.(SIGKILL|SIGALRM|setitimer)"
    )
    joined = re.compile(r"""(str\([a-z_]+\)|\{[a-z_]*(folder|out)\}) ?(\+ ?")?/[a-z{]""")
    for path in sources():
        text = path.read_text(encoding="utf-8")
        assert not needed.search(text) and not calls.search(text), path
        assert not joined.search(text), f"{path}: {joined.search(text)}"


def test_only_the_table_of_assets_is_fetched():
    """Whatever comes over the network has its hash there, and pip compares it."""
    fetching = re.compile(
        r"urlopen|urlretrieve|import requests|hub\.load|from_url|\"download\"|pretrained=True|wget|curl"
    )
    found = {path.name for path in sources() if fetching.search(path.read_text(encoding="utf-8"))}
    assert found == {"assets.py"}
    assert all(len(hash) == 64 for package in assets.PACKAGES.values() for hash in package.files.values())


def test_no_tracked_file_has_a_name_that_a_system_refuses():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout.decode()
    names = listed.split("\0")[:-1]
    assert not [name for name in names if re.search(r'[<>:"\\|?*\x00-\x1f]|[ .]$|[ .]/', name) or len(name) > 150]
    assert len({name.casefold() for name in names}) == len(names)
    reserved = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))}
    assert not [name for name in names if reserved & {part.partition(".")[0].casefold() for part in name.split("/")}]


def test_python_versions_are_said_alike_everywhere():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["requires-python"] == ">=3.11" and project["tool"]["ruff"]["target-version"] == "py311"
    said = {each.rpartition(" ")[2] for each in project["project"]["classifiers"] if "Python :: 3." in each}
    assert said == {"3.11", "3.12", "3.13"}
    assert "sys.version_info < (3, 11)" in (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for path in sources():
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 11))


def test_an_installed_package_has_what_it_needs():
    """setup.py puts weights and directions into the wheel; what else the library reads at run time says so."""
    text = (REPOSITORY / "setup.py").read_text(encoding="utf-8")
    for name, found in (("weights", paths.WEIGHTS), ("directions", paths.DIRECTIONS)):
        assert f'"restyle_lib.{name}": "data/{name}"' in text and found == REPOSITORY / "data" / name
        line = next(line for line in text.splitlines() if f'"restyle_lib.{name}": [' in line)
        assert {path.suffix for path in found.iterdir()} <= {f".{ending}" for ending in re.findall(r"\*\.(\w+)", line)}
    assert paths.INSTALLED == REPOSITORY / "restyle_lib"
