"""Parts of a session that are chosen by name; a new one is a file and a line here, or an entry point."""

from sleep_interpreter.utils.core.registry import Registry

_SOURCES, _OUTPUT = "sleep_interpreter.realtime.Sources", "sleep_interpreter.realtime.Output"
SOURCES = Registry(
    "source",
    "sleep_interpreter.sources",
    {
        "replay": f"{_SOURCES}.file_source:ReplaySource",
        "lsl": f"{_SOURCES}.lsl_source:LslSource",
        "brainflow": f"{_SOURCES}.brainflow_source:BrainflowSource",
        "simulate": f"{_SOURCES}.simulated_source:SimulatedSource",
    },
    f"{_SOURCES}.source:Source",
    maker="for_session",
    later=("rates",),
)
"""Classes that are a `realtime.Sources.source.Source`."""
SOUND_SINKS = Registry(
    "sound sink",
    "sleep_interpreter.sinks",
    {
        "file": f"{_OUTPUT}.sinks:FileSink",
        "device": f"{_OUTPUT}.sound_card:DeviceSink",
        "null": f"{_OUTPUT}.sinks:NullSink",
    },
    f"{_OUTPUT}.sinks:SoundSink",
    maker="open",
    taken=("auto",),
)
"""Classes that are a `realtime.Output.sinks.SoundSink`."""
MARKER_PORTS = Registry(
    "marker port",
    "sleep_interpreter.ports",
    {
        "lsl": f"{_OUTPUT}.marker_ports:LslPort",
        "serial": f"{_OUTPUT}.marker_ports:SerialPort",
        "parallel": f"{_OUTPUT}.marker_ports:ParallelPort",
    },
    f"{_OUTPUT}.marker_ports:MarkerPort",
)
"""Classes that are a `realtime.Output.marker_ports.MarkerPort`, made with their settings."""
