"""The package is the library with data/weights and data/directions in it: what `pip install .` copies needs no more."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["restyle_lib*"]), "restyle_lib.weights", "restyle_lib.directions"],
    package_dir={"restyle_lib.weights": "data/weights", "restyle_lib.directions": "data/directions"},
    package_data={
        "restyle_lib.reporting": ["report.html"],
        "restyle_lib.widgets": ["browser/*"],
        "restyle_lib.weights": ["*.safetensors", "*.json", "*.txt"],
        "restyle_lib.directions": ["*.safetensors", "*.txt"],
    },
)
