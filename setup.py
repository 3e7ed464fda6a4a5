"""The package is the library and, inside it, data/weights: what `pip install .` copies needs no checkout."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["restyle_lib*"]), "restyle_lib.weights"],
    package_dir={"restyle_lib.weights": "data/weights"},
    package_data={
        "restyle_lib.reporting": ["report.html"],
        "restyle_lib.widgets": ["browser/*"],
        "restyle_lib.weights": ["*.safetensors", "*.json", "*.txt"],
    },
)
