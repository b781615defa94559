"""How many inputs were tried, and which are left."""

import pytest

from tests.fuzz import engine


def pytest_collection_finish(session):
    """Every target gets its share of the time."""
    engine.targets = max(1, sum(item.path.parent.name == "fuzz" for item in session.items))


@pytest.fixture(autouse=True)
def _counted(record_property):
    engine.tried = 0
    yield
    record_property("inputs", engine.tried)


def pytest_terminal_summary(terminalreporter):
    """Say both below the results."""
    counts = {}
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        for name, count in getattr(report, "user_properties", ()):
            if name == "inputs":
                counts[report.nodeid] = count
    for target, count in sorted(counts.items()):
        terminalreporter.write_line(f"{count:8,}  {target}")
    if counts:
        terminalreporter.write_line(f"{sum(counts.values()):8,}  inputs")
    for path in sorted(engine.INPUTS.glob("*.py")) if counts else ():
        terminalreporter.write_line(f"failed, or killed the process: {path}")
