"""The simulated head: electrodes on a sphere, dipoles by MNE, patches and eyes, everybody a little apart."""

import time

import numpy as np
import pytest

from sleep_interpreter.data.simulation.head import EOG, MASTOIDS, SOURCES, Head, electrode_direction
from sleep_interpreter.data.simulation.random_numbers import generator
from sleep_interpreter.data.simulation.settings import load_settings
from sleep_interpreter.utils.core.data_card import published
from sleep_interpreter.utils.core.errors import UserError

EEG_MONTAGE = published().channels


def head(number=0, *overrides):
    return Head(generator(1, "head", number), load_settings("test", overrides).head)


@pytest.fixture(scope="module")
def one():
    return head()


@pytest.fixture(scope="module")
def plain():
    """A head without individual differences."""
    return head(0, *(f"head.{name}=0" for name in ("radius_sd_mm", "conductivity_sd", "jitter_mm", "wobble_deg")))


def test_channels_lie_on_the_sphere_near_their_standard_places(one):
    assert one.names == (*EEG_MONTAGE, *MASTOIDS, *EOG)
    assert one.n_eeg == 55
    assert np.allclose(np.linalg.norm(one.positions, axis=1), one.radius)
    standard = one.radius * np.array([electrode_direction(name) for name in one.names])
    away_mm = 1e3 * np.linalg.norm(one.positions - standard, axis=1)
    assert 2 < away_mm.mean() < 10  # 4 mm along each of two axes
    assert 0.08 < one.radius < 0.105


def test_heads_differ_and_each_is_always_the_same(one):
    again, other = head(), head(1)
    assert np.array_equal(again.leadfield, one.leadfield)
    assert np.array_equal(again.patch("Cz"), one.patch("Cz"))
    for name in ("positions", "leadfield", "gain"):
        assert not np.allclose(getattr(other, name), getattr(one, name), rtol=1e-3)
    alike = np.corrcoef(other.patch("Cz"), one.patch("Cz"))[0, 1]
    assert 0.8 < alike < 0.9999


def test_a_head_takes_little_time(one):
    assert one.leadfield.shape == (59, len(SOURCES))  # whatever is loaded at first is there now
    start = time.process_time()
    head(2).leadfield  # noqa: B018
    assert time.process_time() - start < 1.5


def test_potentials_of_dipoles(plain):
    for name in ("Fz", "C4", "Pz"):
        nearest = int((SOURCES @ electrode_direction(name)).argmax())
        moments = np.zeros(len(SOURCES))
        moments[nearest] = 10  # nAm, pointing outwards
        potentials = plain.pattern(moments)
        assert potentials[57:].shape == (2,)
        best = int(potentials[:55].argmax())
        assert plain.positions[best] @ electrode_direction(name) > 0.9 * plain.radius
        assert 1 < potentials[best] < 10  # µV: 10 nAm are seen as a few µV (Hämäläinen et al. 1993)
        assert np.allclose(plain.pattern(2 * moments), 2 * potentials)
        assert abs(potentials[55:57].mean()) < 1e-12  # against the mean mastoid


def test_a_skull_that_insulates_more_lets_less_through(plain):
    usual = "head.skull_ratio=15"
    thin, thick = (head(0, "head.conductivity_sd=0", change).leadfield for change in (usual, "head.skull_ratio=80"))
    assert np.abs(thick).max() < 0.6 * np.abs(thin).max()


@pytest.mark.parametrize("where", ["Fz", ("C3", "CP3"), "AFz", (0.0, 0.0, 1.0)])
def test_patches_have_size_one_at_their_place(one, where):
    topography = one.patch(where)
    best = int(np.abs(topography[:55]).argmax())
    assert topography[best] == 1
    assert one.patch(where) is topography
    named = isinstance(where, str) or isinstance(where[0], str)
    names = (where,) if isinstance(where, str) else where
    place = np.mean([electrode_direction(name) for name in names], axis=0) if named else np.array(where)
    assert one.positions[best] @ place / np.linalg.norm(place) > np.cos(np.radians(25)) * one.radius
    assert abs(topography[55:57].mean()) < 1e-12
    wide = one.patch(where, 55.0)
    assert np.abs(wide[:55]).mean() > np.abs(topography[:55]).mean()


def test_eyes_turn_the_eye_electrodes_apart_and_blinks_lift_the_forehead(plain):
    right, up = plain.eyes.T
    at = plain.names.index
    assert right[at("EOG2")] - right[at("EOG1")] == pytest.approx(1)
    assert -0.65 < right[at("EOG1")] < -0.35
    assert right[at("F8")] > 0.2 and right[at("F7")] < -0.2
    assert up[:55].max() == 1
    assert plain.names[int(up[:55].argmax())] in ("Fp1", "Fp2")
    assert up[at("Fz")] < 0.4 and abs(up[at("Oz")]) < 0.1
    assert up[at("EOG2")] > up[at("EOG1")]  # the right one lies higher


def test_distance_is_measured_along_the_scalp(plain):
    away = plain.distance("Fz")
    assert away[plain.names.index("Fz")] == 0
    ends = [away[plain.names.index(name)] for name in ("FCz", "Cz", "Pz", "Oz")]
    assert ends == sorted(ends)
    assert 0.15 < ends[-1] < 0.25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("head.montage=[Cz, M1]", r"names 'M1'; the simulator adds M1, M2"),
        (f"head.montage=[{', '.join(['Cz', *EEG_MONTAGE[1:]])}]", "'Cz' more than once"),
        ("head.skull_ratio=0", r"head\.skull_ratio.*greater than or equal to 5"),
        ("head.radius_mm=20", r"head\.radius_mm.*greater than or equal to 70"),
        ("head.jitter_mm=-1", r"head\.jitter_mm.*greater than or equal to 0"),
    ],
)
def test_heads_that_nobody_has_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        load_settings("test", [change])


def test_an_electrode_that_does_not_exist_is_refused():
    montage = ", ".join(["Czz", *EEG_MONTAGE[1:]])
    with pytest.raises(UserError, match=r"'Czz' is no position of the 10-05 system; did you mean '\w+'"):
        head(0, f"head.montage=[{montage}]")


def test_named_generators_are_independent_of_each_other():
    a, b = generator(7, "train", 3, "x"), generator(7, "train", 3, "x")
    assert np.array_equal(a.random(5), b.random(5))
    firsts = {float(generator(seed, *purpose).random()) for seed in (7, 8) for purpose in (("a",), ("b",), (3,))}
    assert len(firsts) == 6
