"""What sensors add: noise, mains and drift at their sizes, bad channels at their rate, movements."""

import numpy as np
import pytest

from sleep_interpreter.data.simulation.settings import load_settings
from sleep_interpreter.utils.core.errors import UserError
from tests.simulation_scenes import NO_EVENTS, NO_SENSORS, SILENT, density, rendered, scene, subject

EEG = slice(0, 55)


def test_without_anything_there_is_nothing():
    assert not rendered(scene({"N2": 2}, *SILENT)).any()


def test_white_noise_has_its_size():
    data = rendered(scene({"N2": 2}, *SILENT, "sensors.noise_uv=2"))
    assert data[EEG].std() == pytest.approx(2 * np.sqrt(1.5), rel=0.03)  # the mastoids' noise is in it
    assert data[-2:].std() == pytest.approx(2, rel=0.03)
    _, power = density(data[-2:])
    assert power[:, 20:500].mean() == pytest.approx(power[:, 500:900].mean(), rel=0.1)


@pytest.mark.parametrize("hz", [50.0, 60.0])
def test_mains(hz):
    data = rendered(scene({"N2": 2}, *SILENT, "sensors.line_uv=3", f"sensors.line_hz={hz}"))
    f, power = density(data)
    assert (f[power.argmax(axis=1)] == hz).all()
    assert power[:, np.abs(f - hz) > 2].max() < 1e-3 * power.max()
    sizes = [
        rendered(scene({"N2": 1}, *SILENT, "sensors.line_uv=3", number=k), "EMG1")[0, :5000].std() for k in range(7)
    ]
    assert 1.5 < np.median(sizes) < 6
    assert np.std(sizes) > 0.3


def test_drift_is_slow_and_has_its_size():
    data = rendered(scene({"N2": 60}, *SILENT, "sensors.drift_uv=20"), "EMG1", "EMG2", "Cz", "M1")
    assert 12 < data[:2].std() < 28
    assert np.abs(np.diff(data, axis=1)).max() < 0.1  # per sample, without a step at any seam
    f, power = density(data, 20)
    assert power[:, f > 1].sum() < 0.01 * power.sum()


def test_gains_belong_to_the_subject():
    wide = ("head.gain_sd=0.1", *SILENT, "stages.N2.theta_uv=10", "head.gain_sd=0.1")
    one = subject(*wide)
    assert one.head.gain.std() == pytest.approx(0.1, rel=0.4)
    made, plain = scene({"N2": 1}, *wide), scene({"N2": 1}, *SILENT, "stages.N2.theta_uv=10")
    index = made.names.index("Cz")
    ratio = rendered(made, "Cz").std() / rendered(plain, "Cz").std()
    assert ratio == pytest.approx(one.head.gain[index], rel=0.05)


def test_channels_go_bad_at_the_set_rate_and_look_it():
    change = ("sensors.bad_channels_per_h=30", "sensors.bad_channel_min=2", *NO_EVENTS)
    made = scene({"N2": 480}, *change)
    bad = made.events["bad_channel"]
    assert len(bad) / 4 == pytest.approx(30, rel=0.25)
    assert bad["duration_s"].mean() == pytest.approx(120, rel=0.3)
    assert set(bad["kind"]) == {"flat", "noisy"} and set(bad["channel"]) <= set(made.names[EEG])
    for kind in ("flat", "noisy"):
        row = bad[(bad["kind"] == kind) & (bad["duration_s"] > 25)].iloc[0]
        start, stop = round(row["start_s"] * 500) + 1, round((row["start_s"] + 20) * 500)
        channel = made.names.index(row["channel"])
        data = made.render(start, stop)
        others = np.median(data[EEG].std(axis=1))
        spread = data[channel].std()
        assert spread < 0.1 * others if kind == "flat" else spread > 1.5 * others
    assert len(scene({"N2": 480}, *change[1:], "sensors.bad_channels_per_h=0").events["bad_channel"]) == 0


def test_movements_shake_all_channels_while_they_last():
    made = scene({"N2": 20}, *SILENT, "stages.N2.movements_per_h=90")
    data, moving = rendered(made), np.zeros(made.n, bool)
    for start, length in made.events["movement"][["start_s", "duration_s"]].to_numpy(float):
        moving[int(start * 500) : int((start + length) * 500) + 1] = True
    assert 5 < len(made.events["movement"]) < 30
    assert not data[:, ~moving].any()
    assert (data[EEG, moving].std(axis=1) > 20).all()
    assert 60 < np.median(data[EEG, moving].std(axis=1)) < 250
    chin = data[-2:, moving]
    assert np.diff(chin, axis=1).std() > 10  # muscle


def test_no_sensors_leave_the_brain_alone():
    quiet = rendered(scene({"N2": 1}, *NO_SENSORS), "Cz")
    noisy = rendered(scene({"N2": 1}, *NO_SENSORS, "sensors.noise_uv=1"), "Cz")
    assert (noisy - quiet).std() == pytest.approx(np.sqrt(1.5), rel=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sensors.line_hz=300", r"sensors\.line_hz.*less than 250"),
        ("sensors.noise_uv=-1", r"sensors\.noise_uv.*greater than or equal to 0"),
        ("sensors.bad_channels_per_h=-2", r"sensors\.bad_channels_per_h.*greater than or equal to 0"),
        ("sensors.drift_s=1", r"sensors\.drift_s.*greater than or equal to 5"),
    ],
)
def test_nonsense_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        load_settings("test", [change])
