"""Thousands of damaged and hostile checkpoints through the readers: python tests/soak/mutations.py --n 10000 --seed 0

Small true files of every format are mutated: bytes, lengths, ends, opcodes of pickles with the names that attacks use,
headers of safetensors, members of archives. A worker process opens one after the other. It fails where a file

- does anything but be read: starts a program, opens a connection, writes, deletes (seen by an audit hook);
- ends in another error than the readers' own, or takes the process down;
- takes more than 5 s of the processor, or 2 GiB of memory.

A mutation depends on the seed and its number alone: --only NUMBER makes and opens it again.
"""

import argparse
import contextlib
import io
import json
import pickle
import pickletools
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import zipfile
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

import numpy as np  # noqa: E402
import torch  # noqa: E402

SECONDS, GIB, STUCK = 5, 2.0, 120  # of the processor; of memory; of the clock, for what waits
DANGEROUS = [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("builtins", "exec"), ("builtins", "open")]
DANGEROUS += [("subprocess", "Popen"), ("shutil", "rmtree"), ("builtins", "getattr"), ("builtins", "__import__")]
DANGEROUS += [("torch.hub", "load"), ("torch", "load"), ("numpy", "load"), ("operator", "attrgetter"), ("os", "remove")]
DANGEROUS += [("runpy", "run_path"), ("importlib", "import_module"), ("ctypes", "CDLL"), ("pickle", "loads")]
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.remove", "os.rename", "os.mkdir")
FORBIDDEN += ("os.rmdir", "os.chmod", "os.symlink", "os.link", "os.truncate", "subprocess.", "socket.", "shutil.")
FORBIDDEN += ("pty.", "urllib.", "ftplib.", "smtplib.", "webbrowser.", "sys.settrace", "ctypes.dlopen")
LARGE = [-1, 0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1]


class Runs:
    """Pickles to a call of a function, as attacks do."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def true_files(folder: Path) -> dict[str, bytes]:
    """Small files of every format that the readers know, by name; openvino.xml and .bin belong together."""
    import os

    import stylegan3_published
    from official import ada_tensors, as_modules, made_up, reference, small, write_ada_pickle
    from safetensors.torch import save

    from restyle_lib.checkpoints.packing import pack
    from restyle_lib.generators import stylegan2, stylegan3, tuned
    from restyle_lib.making.stand_ins import generator_state, random_checkpoint

    rng = torch.Generator().manual_seed(0)
    state, old = small(generator_state(16, 1, rng)), {"_use_new_zipfile_serialization": False}
    official = random_checkpoint("church", size=16, mapping=1)
    official["state_dict"] = small(official["state_dict"])
    official["opts"] |= {"exp_dir": Path("run"), "lr": np.float64(1e-4), "names": {"a", "b"}}
    namespace = {**official, "opts": argparse.Namespace(**official["opts"])}
    contents: dict[str, bytes] = {}

    def keep(name: str, content, **options) -> None:
        file = io.BytesIO()
        torch.save(content, file, **options)
        contents[name] = file.getvalue()

    keep("rosinality.pt", {"g_ema": state, "latent_avg": torch.zeros(8)})
    keep("rosinality-old.pt", {"g_ema": state, "latent_avg": torch.zeros(8)}, **old)
    keep("official.pt", official)
    keep("namespace.pt", namespace)
    keep("namespace-old.pt", namespace, **old)
    keep("array.pt", {"g_ema": state, "latent_avg": np.zeros(8, np.float32)})
    with made_up("models.model.Generator") as (kind,):
        keep("module.pt", {"g_ema": as_modules(kind, state)})
        keep("module-old.pt", {"g_ema": as_modules(kind, state)}, **old)
    ada = small(ada_tensors(reference("ada_16")[1]))
    sg3 = stylegan3_published.tensors(16, num_layers=4, channel_base=256, channel_max=8, w_dim=8)
    for name, protocol, options, tensors in (
        ("ada.pkl", 3, None, ada),
        ("ada-4.pkl", 4, None, ada),
        ("tuned.pt", 2, {}, ada),
        ("stylegan3.pkl", 4, None, sg3),
    ):
        write_ada_pickle(folder / name, tensors, protocol, tuned=options)
        contents[name] = (folder / name).read_bytes()
    for name, program, G in (
        ("generator", stylegan2, stylegan2.from_ada(ada)),
        ("stylegan3", stylegan3, stylegan3.from_nvidia(sg3)),
    ):
        metadata = {"format": f"restyle-companion {program.__name__.rpartition('.')[2]} 1"}
        metadata |= {"geometry": json.dumps(program.geometry(G))}
        tensors = {key: x.contiguous() for key, x in G.state_dict().items()}
        contents[f"{name}.safetensors"] = save(tensors, metadata)
    contents["theirs.safetensors"] = save({f"module.{key}": x for key, x in ada.items()}, {"format": "pt"})
    keep("bare.pt", {f"g_ema.{key}": x.half() for key, x in state.items()})
    delta = pack({"stem.bias": torch.ones(8), "to_image.weight": torch.randn(12, 8)}) | {
        tuned.CODES: torch.zeros(1, 16, 8)
    }
    contents["delta.safetensors"] = save(delta, {"format": tuned.FORMAT, "base": tuned.BASES[0]})
    keep("direction.pt", torch.randn(8))
    np.save(folder / "direction.npy", np.ones((4, 8), np.float32))
    contents["direction.npy"] = (folder / "direction.npy").read_bytes()
    steps = {"encoder": small(official["state_dict"]), "iteration": 3, "settings": {"lr": 1e-4, "method": "psp"}}
    keep("training.pt", steps | {"optimizer": {"state": {0: {"step": 3, "mean": torch.zeros(8)}}}})
    keep("backbone.pth", {"input_layer.0.weight": torch.zeros(8, 3, 3, 3), "output_layer.3.weight": torch.zeros(8)})
    metadata = {"format": "restyle-companion inverter 1", "generator": "faces-64", "decay": "0.0", "in_channels": "6"}
    contents["packed.safetensors"] = save(pack(state), metadata)
    values = np.arange(12, dtype="<f4")
    layer = '<layer id="{}" name="c{}" type="Const"><data element_type="f32" offset="{}" size="{}" shape="{}"/></layer>'
    layers = layer.format(0, 0, 0, 32, "2, 4") + layer.format(1, 1, 32, 16, "4") + '<layer id="2" type="Add"/>'
    contents["openvino.xml"] = f'<?xml version="1.0"?><net name="n"><layers>{layers}</layers></net>'.encode()
    contents["openvino.bin"] = values.tobytes()
    trace = str(folder / "executed")
    evil = [Runs(os.system, f"touch {trace}"), Runs(eval, f"open({trace!r}, 'w')"), Runs(os.mkdir, trace)]
    contents["evil.pkl"] = pickle.dumps({"G_ema": evil}, protocol=4)
    keep("evil.pt", {"g_ema": evil})
    keep("evil-old.pt", {"g_ema": evil}, **old)
    return contents


def of_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flips, cuts, repeats, fills, overwrites with lengths; most of it near the beginning, where the structure is."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        place = min(int(len(data) * rng.random() ** rng.choice([1, 3, 8])), max(0, len(data) - 1))
        match rng.randrange(7):
            case 0 if data:
                data[place] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[place] = rng.randrange(256)
            case 2:
                del data[place:]
            case 3:
                del data[place : place + rng.randrange(1, 50)]
            case 4:
                data[place:place] = data[place : place + rng.randrange(1, 200)]
            case 5:
                size = rng.choice([2, 4, 8])
                data[place : place + size] = (rng.choice(LARGE) % 2 ** (8 * size)).to_bytes(size, "little")
            case 6:
                data[place:place] = rng.randbytes(rng.randrange(1, 30))
    return bytes(data)


def of_pickle(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Opcodes taken out, doubled, exchanged, put in from another pickle, or with names and numbers of an attack."""
    try:
        codes = parts(content)
    except Exception:
        return of_bytes(content, rng)
    for _ in range(rng.choice([1, 1, 2, 4, 10])):
        place = rng.randrange(len(codes)) if codes else 0
        match rng.randrange(7):
            case 0:
                del codes[place : place + 1]
            case 1:
                codes[place:place] = codes[place : place + rng.randrange(1, 5)] * rng.choice([1, 1, 2, 1000])
            case 2:
                other = rng.randrange(len(codes) or 1)
                codes[place : place + 1], codes[other : other + 1] = (
                    codes[other : other + 1],
                    codes[place : place + 1],
                )
            case 3:
                module, name = rng.choice(DANGEROUS)
                call = b"(X" + struct.pack("<I", 5) + b"touchtR" if rng.random() < 0.5 else b""
                codes.insert(place, f"c{module}\n{name}\n".encode() + call)
            case 4:
                names = [i for i, code in enumerate(codes) if code[:1] == b"c"]
                if names:
                    module, name = rng.choice([*DANGEROUS, ("torch._utils", "_rebuild_tensor_v2"), ("numpy", "dtype")])
                    codes[rng.choice(names)] = f"c{module}\n{name}\n".encode()
            case 5:
                numbers = [i for i, code in enumerate(codes) if code[:1] in b"KMJ\x8a"]
                if numbers:
                    codes[rng.choice(numbers)] = b"\x8a\x09" + rng.choice(LARGE).to_bytes(9, "little", signed=True)
            case 6:
                with contextlib.suppress(Exception):
                    foreign = parts(rng.choice(others))
                    start = rng.randrange(len(foreign))
                    codes[place:place] = foreign[start : start + rng.randrange(1, 40)]
    return b"".join(codes)


def parts(content: bytes) -> list[bytes]:
    """A pickle's opcodes with their arguments; what follows its end is one more."""
    places = [place for _, _, place in pickletools.genops(content)]
    end = places[-1] + 1
    found = [content[a:b] for a, b in zip(places, [*places[1:], end], strict=True)]
    return found + [content[end:]] * (end < len(content))


def of_archive(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """One member mutated, renamed, left out or doubled, and the archive made anew with right checksums."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    i = next((i for i, (name, _) in enumerate(members) if name.endswith("data.pkl")), 0)
    match rng.randrange(6):
        case 0 | 1 | 2:
            members[i] = (members[i][0], of_pickle(members[i][1], rng, others))
        case 3:
            j = rng.randrange(len(members))
            members[j] = (members[j][0], of_bytes(members[j][1], rng))
        case 4:
            del members[rng.randrange(len(members))]
        case 5:
            j = rng.randrange(len(members))
            members[j] = (rng.choice(["../../up", "/etc/passwd", members[j][0] + "\0", "x/data.pkl"]), members[j][1])
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", rng.choice([0, 0, 0, 8])) as archive:
        warnings.simplefilter("ignore")
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def of_safetensors(content: bytes, rng: random.Random) -> bytes:
    """The header with other numbers, types and settings, and a length that fits it, mostly."""
    size = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    for _ in range(rng.choice([1, 2, 5])):
        name = rng.choice(list(header))
        entry = header[name]
        match rng.randrange(5):
            case 0:
                entry[rng.choice(list(entry) or ["shape"])] = rng.choice([None, -1, [], {}, "F64", [2**40, 2**40], [0]])
            case 1 if "shape" in entry and isinstance(entry["shape"], list) and entry["shape"]:
                entry["shape"][rng.randrange(len(entry["shape"]))] = rng.choice(LARGE)
            case 2 if "data_offsets" in entry:
                entry["data_offsets"] = [rng.choice(LARGE), rng.choice(LARGE)]
            case 3:
                settings = header.get("__metadata__", {})
                key = rng.choice(list(settings) or ["format"])
                numbers = str(rng.choice(LARGE))
                changed = str(settings.get(key, "")).replace(rng.choice("0123456789"), numbers)
                settings[key] = rng.choice([changed, of_bytes(changed.encode(), rng).decode(errors="replace"), numbers])
            case 4:
                header[f"{name}{rng.randrange(9)}"] = header.pop(name)
    words = json.dumps(header).encode()
    length = len(words) if rng.random() < 0.9 else rng.choice(LARGE) % 2**64
    return struct.pack("<Q", length) + words + data


def of_graph(content: bytes, rng: random.Random) -> bytes:
    """An OpenVINO graph with other numbers, entities that grow, or nested for ever."""
    text = content.decode()
    match rng.randrange(4):
        case 0:
            text = text.replace(rng.choice(['"0"', '"32"', '"16"', '"2, 4"', '"4"']), f'"{rng.choice(LARGE)}"', 1)
        case 1:
            grows = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "lol"}">' for i in range(10))
            text = text.replace("?>", f"?><!DOCTYPE net [{grows}]>").replace('name="c0"', 'name="&e9;"')
        case 2:
            reads = '<!ENTITY file SYSTEM "file:///etc/passwd">'
            text = text.replace("?>", f"?><!DOCTYPE net [{reads}]>").replace("<layers>", "<layers>&file;")
        case 3:
            return of_bytes(content, rng)
    return text.encode()


def mutated(seeds: dict[str, bytes], seed: int, number: int) -> tuple[str, bytes]:
    """Name of the true file, and what is made of it."""
    rng = random.Random(f"{seed}-{number}")
    name = rng.choice([name for name in seeds if name != "openvino.bin" or rng.random() < 0.3])
    content, others = seeds[name], [data for other, data in seeds.items() if other.endswith(".pkl")]
    if rng.random() < 0.35:
        return name, of_bytes(content, rng)
    if content.startswith(b"PK"):
        return name, of_archive(content, rng, others)
    if content.startswith(b"\x80"):
        return name, of_pickle(content, rng, others)
    if name.endswith(".safetensors"):
        return name, of_safetensors(content, rng)
    return name, of_graph(content, rng) if name.endswith(".xml") else of_bytes(content, rng)


def read(path: Path) -> str:
    """What comes of a file: "opens", or "refused", by the readers' own error. Raises whatever else happens."""
    from restyle_lib.checkpoints import generators, openvino_ir
    from restyle_lib.inversion.edit import load_direction
    from restyle_lib.inversion.inverter import load_inverter
    from restyle_lib.inversion.tune import saved_codes
    from restyle_lib.training import checkpoint

    readers, error = [generators.to_generator, load_inverter], generators.CheckpointError
    match path.name.partition(".")[0]:
        case "openvino":
            readers, error = [lambda path: openvino_ir.read_constants(path.with_suffix(".xml"))], ValueError
        case "direction":
            readers, error = [load_direction], ValueError
        case "training":
            readers, error = [*readers, checkpoint.load], ValueError
        case "delta":
            readers = [*readers, saved_codes]
    outcome = "refused"
    for reader in readers:
        with contextlib.suppress(error):
            reader(path)
            outcome = "opens"
    return outcome


class Watch:
    """Records what the program does while it is on, and ends it with an error that no reader catches."""

    def __init__(self):
        self.on, self.seen = False, []
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple) -> None:
        if self.on and (event.startswith(FORBIDDEN) or event == "open" and set(str(args[1])) & set("wax+")):
            self.seen.append(f"{event} {args!r:.200}")
            raise KeyboardInterrupt("a file made the program act")


def work(seed: int, first: int, stop: int, folder: Path) -> None:
    """The worker: opens mutations; prints the number of each before it, and a line of JSON after it."""
    seeds = true_files(folder)
    warnings.simplefilter("ignore")
    for name, content in seeds.items():
        (folder / name).write_bytes(content)
    for name in seeds:  # imports what is imported late, and shows that the true files open
        known = name.startswith(("official", "namespace", "evil", "packed", "backbone"))  # cut, or no generators
        assert read(folder / name) == "opens" or known, f"{name} does not open"
    watch = Watch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, wherever it is
    for number in range(first, stop):
        name, content = mutated(seeds, seed, number)
        (folder / name).write_bytes(content)
        print(f"at {number} {name}", flush=True)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        watch.on, problem, outcome = True, "", ""
        try:
            outcome = read(folder / name)
        except BaseException as error:
            problem = f"{type(error).__name__}: {error}"
        watch.on = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        if watch.seen or (folder / "executed").exists():
            problem = f"it acted: {'; '.join(watch.seen)}"
            watch.seen.clear()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if (memory - before) / 2**20 > GIB:
            problem, before = f"{(memory - before) / 2**20:.1f} GiB", memory
        (folder / name).write_bytes(seeds[name])
        print(json.dumps({"number": number, "name": name, "outcome": outcome, "problem": problem}), flush=True)


def run(n: int, seed: int, first: int = 0) -> list[dict]:
    """Opens n mutations in worker processes, a new one after each that dies; what happened with each."""
    done: list[dict] = []
    while len(done) < n:
        with tempfile.TemporaryDirectory() as folder:
            where = [str(first + len(done)), str(first + n), folder]
            command = [sys.executable, __file__, "--seed", str(seed), "--work", *where]
            worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            stuck, at = threading.Timer(STUCK, worker.kill), ""
            stuck.start()
            for line in worker.stdout:
                stuck.cancel()
                stuck = threading.Timer(STUCK, worker.kill)
                stuck.start()
                if line.startswith("at "):
                    at = line.split()[-1]
                elif line.startswith("{"):
                    done.append(json.loads(line))
                    at = ""
                    if len(done) % 500 == 0:
                        print(f"{len(done)} of {n}", file=sys.stderr)
            stuck.cancel()
            errors = worker.stderr.read()
            code = worker.wait()
        if at:
            how = "took more than 5 s" if code == -signal.SIGPROF else f"ended the process ({code})"
            done.append({"number": first + len(done), "name": at, "outcome": "", "problem": how})
        elif code:
            raise RuntimeError(f"the worker failed: {errors[-2000:]}")
    return done


def main() -> None:
    """Prints what happened; the exit code is 1 where something did that must not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one mutation")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        first, stop, folder = options.work
        work(options.seed, int(first), int(stop), Path(folder))
        return
    begin = time.monotonic()
    done = run(options.n if options.only is None else 1, options.seed, options.only or 0)
    for each in done:
        if each["problem"]:
            print(f"{each['number']} ({each['name']}): {each['problem']}")
    counts = Counter(each["outcome"] or "FAILED" for each in done)
    print(f"{len(done)} files, seed {options.seed}, {time.monotonic() - begin:.0f} s: {dict(counts)}")
    sys.exit(bool(counts["FAILED"]))


if __name__ == "__main__":
    main()
