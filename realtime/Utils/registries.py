"""Parts of a session that are chosen by name; a new one is a file and a line here, or an entry point."""

from sleep_interpreter.utils.core.registry import Registry

_SOURCES = "sleep_interpreter.realtime.Sources"
SOURCES = Registry(
    "source",
    "sleep_interpreter.sources",
    {
        "replay": f"{_SOURCES}.file_source:ReplaySource",
        "lsl": f"{_SOURCES}.lsl_source:LslSource",
        "brainflow": f"{_SOURCES}.brainflow_source:BrainflowSource",
        "simulate": f"{_SOURCES}.simulated_source:SimulatedSource",
    },
)
"""Classes that are a `realtime.Sources.source.Source`."""
