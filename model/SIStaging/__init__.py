"""Sleep staging network: EEG, EOG and EMG of 30 s to W/N1, N2, N3, R; 6 members."""

from functools import partial

from sleep_interpreter.model.registry import build as build_network

build = partial(build_network, "SIStaging")
