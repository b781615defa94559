"""Packages of somebody else, as `pip install` leaves them."""


def package(place, points, code, name="theirs"):
    """Write a package into a folder of sys.path: {group: line of an entry point}, and the code of its module `name`."""
    about = place / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    text = "".join(f"[sleep_interpreter.{group}]\n{line}\n" for group, line in points.items())
    (about / "entry_points.txt").write_text(text)
    (place / f"{name}.py").write_text(code, encoding="utf-8")
