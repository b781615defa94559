"""The simulator: head, sleep, memory, data sets and live sleepers.

Three things have similar names. This package simulates. `data/simulated/` and classes such as
`SimulatedNight` are what it makes, marked as simulated (`data.formats.simulation_marks`).
`benchmarks/simulator` measures how true to life that is and writes the report (docs/simulator.md).
"""
