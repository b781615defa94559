"""What can be set about the staging network; every default is the published value (SPEC section 3)."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sleep_interpreter.model.networks.registration import NetworkSettings, PublishedNetwork, Samples, Width


class StagerSettings(NetworkSettings):
    """A staging member: 30 s of EEG, EOG and EMG to four stages."""

    task = "staging"
    builder = "sleep_interpreter.model.SIStaging.network:build_member"
    published = (PublishedNetwork("SIStaging", "normal", "SIStaging", ("Staging",), "Staging"),)

    kind: Literal["stager"] = "stager"
    channels: Width = 3
    samples: Samples = 15000
    classes: int = Field(4, ge=2, le=8192)
    kernels: Annotated[tuple[Samples, ...], Field(max_length=64)] = (500, 250, 125, 62, 1000, 2000)
    stride: Samples = 62
    branch_filters: Width = 16
    block_filters: Width = 32
    map_filters: Width = 240
    series_filters: tuple[Width, Width, Width] = (256, 192, 128)
    pool_filters: tuple[Width, Width] = (128, 64)
    lstm: Width = 256
    dense: Width = 64
    dropout: float = Field(0.5, ge=0, lt=1)
    class_weights: tuple[tuple[float, ...], ...] = (
        (1.1, 1.2, 1.0, 1.0),
        (1.1, 1.0, 1.2, 1.0),
        (1.1, 1.0, 1.0, 1.1),
        (1.0, 1.2, 1.2, 1.0),
        (1.0, 1.2, 1.0, 1.1),
        (1.0, 1.0, 1.2, 1.1),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.class_weights:
            raise ValueError("class_weights needs at least one row")
        if any(len(w) != self.classes for w in self.class_weights):
            raise ValueError(f"every row of class_weights needs {self.classes} numbers")
        if self.series_filters[-1] != self.pool_filters[0]:
            raise ValueError("the last of series_filters must equal the first of pool_filters (they are added)")
        return self
