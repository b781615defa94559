"""Sleep staging network: EEG, EOG and EMG of 30 s to W/N1, N2, N3, R; 6 members."""

from model.SIStaging.network import Stager

__all__ = ["Stager"]
