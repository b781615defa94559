"""Sleep staging network: EEG, EOG and EMG of 30 s to W/N1, N2, N3, R; 6 members."""

from functools import partial

from sleep_interpreter.model.networks.building import build_published
from sleep_interpreter.model.SIStaging.settings import StagerSettings

build = partial(build_published, (StagerSettings,), "SIStaging")
