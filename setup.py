"""Maps the folders of the checkout into one package, sleep_interpreter; all else stands in pyproject.toml."""

from setuptools import find_packages, setup

FOLDERS = {"sleep_interpreter": "sleep_interpreter"}
for top in ("utils", "data", "model", "train", "lasso_glm", "realtime", "params"):
    for name in (top, *(f"{top}.{package}" for package in find_packages(top))):
        FOLDERS[f"sleep_interpreter.{name}"] = name.replace(".", "/")
FILES = ["*.yaml", "*.css", "*.html", "*.j2", "py.typed", "templates/*", "static/*", "static/*/*"]

setup(packages=list(FOLDERS), package_dir=FOLDERS, package_data={name: FILES for name in FOLDERS})
