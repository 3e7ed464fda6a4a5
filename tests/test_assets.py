"""The table of assets is complete and true, and a failed or altered download leaves nothing behind."""

import dataclasses
import subprocess
import zipfile

import pytest

from restyle_lib import assets
from restyle_lib.paths import REPOSITORY, WEIGHTS

MB = 2**20


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RESTYLE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def contents(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_table_matches_the_files():
    assert assets.verify() == []
    shipped = {path.name for path in WEIGHTS.glob("*.safetensors")}
    assert shipped == set(assets.SHIPPED)
    for name, asset in assets.SHIPPED.items():
        assert asset.licence and asset.source and asset.bytes == (WEIGHTS / name).stat().st_size
    for licence in ("face-LICENSE.txt", "judge-LICENSE.txt"):
        assert (WEIGHTS / licence).read_text().startswith("MIT License")


def test_tracked_files_fit_the_limits():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    sizes = [path.stat().st_size for name in listed.decode().split("\0")[:-1] if (path := REPOSITORY / name).exists()]
    assert max(sizes) <= 12 * MB and sum(sizes) <= 96 * MB


def test_verify_names_an_altered_file(monkeypatch):
    name, asset = next(iter(assets.SHIPPED.items()))
    monkeypatch.setitem(assets.SHIPPED, name, dataclasses.replace(asset, sha256="0" * 64))
    (problem,) = assets.verify()
    assert name in problem and "not the shipped file" in problem


def test_no_network_is_a_clear_error_and_leaves_nothing(empty_cache, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(assets.AssetError, match="could not fetch random-face.*check the network"):
        assets.fetch("random-face")
    assert contents(empty_cache) == []


def fake_wheel(folder, monkeypatch, **changes):
    """Lets pip find a wheel of the right name in `folder`, with other contents."""
    folder.mkdir()
    path = folder / "random_face-2021.7.21.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        metadata = "Metadata-Version: 2.1\nName: random-face\nVersion: 2021.7.21.1\n"
        archive.writestr("random_face-2021.7.21.1.dist-info/METADATA", metadata)
        archive.writestr("random_face-2021.7.21.1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        for file in assets.PACKAGES["random-face"].files:
            archive.writestr(f"random_face/data/{file}", "x")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return path


def test_an_altered_download_is_refused_and_leaves_nothing(empty_cache, tmp_path, monkeypatch):
    fake_wheel(tmp_path / "index", monkeypatch)
    with pytest.raises(assets.AssetError, match="hash is not the expected one"):
        assets.fetch("random-face")
    assert contents(empty_cache) == []


def test_fetched_once_then_offline(empty_cache, tmp_path, monkeypatch):
    wheel = fake_wheel(tmp_path / "index", monkeypatch)
    entry = dataclasses.replace(assets.PACKAGES["random-face"], sha256=assets.sha256(wheel))
    monkeypatch.setitem(assets.PACKAGES, "random-face", entry)
    folder = assets.fetch("random-face")
    assert sorted(path.name for path in folder.iterdir()) == sorted(entry.files)
    wheel.unlink()
    assert assets.fetch("random-face") == folder
    (folder / "SynthesisNetwork.bin").unlink()
    with pytest.raises(assets.AssetError, match="lacks SynthesisNetwork.bin; delete"):
        assets.fetch("random-face")
