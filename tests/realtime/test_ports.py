"""Markers on real ports: a pseudo-terminal as the serial port, and what happens when it goes."""

import os
import pty
import time
import tty

import numpy as np
import pytest

from sleep_interpreter.realtime.Output.marker_ports import MarkerHub, SerialPort, open_ports
from sleep_interpreter.realtime.Parameters.output import MarkerSettings, ParallelSettings, SerialSettings
from sleep_interpreter.utils.core.errors import UserError


class _Slow:
    """A port whose pulse takes its time, and that can be broken."""

    name = "slow"

    def __init__(self):
        self.sent, self.broken = [], False

    def open(self):
        if self.broken:
            raise OSError("gone")

    def send(self, code, at):
        if self.broken:
            raise OSError("gone")
        self.sent.append((code, at, time.perf_counter()))
        time.sleep(0.01)

    def close(self):
        pass


def _wait(condition, seconds=5):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_bytes_arrive_at_a_serial_port_at_their_times_with_their_pulse(tmp_path):
    master, slave = pty.openpty()
    tty.setraw(master)
    tty.setraw(slave)
    settings = SerialSettings(port=os.ttyname(slave), pulse_seconds=0.005)
    ports = MarkerHub([SerialPort(settings)], tmp_path / "ports.tsv")
    began = time.perf_counter()
    for number in range(20):
        ports.send(1 + number % 15, began + 0.1 + 0.02 * number)
    asked = time.perf_counter() - began
    ports.send(36, began + 0.09)  # asked for last, due first
    time.sleep(0.7)
    ports.close()
    received = os.read(master, 1000)
    os.close(master)
    os.close(slave)
    assert asked < 0.02, "sending must not wait"
    codes = [byte for byte in received if byte]
    assert codes == [36, *(1 + n % 15 for n in range(20))]
    assert received[0] == 0 and all(received[k + 1] == 0 for k in range(1, len(received) - 1, 2))
    rows = [line.split("\t") for line in (tmp_path / "ports.tsv").read_text().splitlines()[1:]]
    assert len(rows) == 21 and {row[5] for row in rows} == {"yes"}
    assert np.median([float(row[4]) for row in rows]) < 2


def test_a_port_that_vanishes_is_lost_and_comes_back(tmp_path):
    port, other = _Slow(), _Slow()
    ports = MarkerHub([port, other], tmp_path / "ports.tsv")
    ports.send(1)
    _wait(lambda: len(port.sent) == 1)
    port.broken = True
    ports.send(2)
    _wait(lambda: len(other.sent) == 2)
    found = []
    _wait(lambda: found.extend(ports.take_faults()) or found)
    assert found[0]["state"] == "lost" and "code 2 was not sent" in found[0]["reason"]
    port.broken = False
    time.sleep(1.05)
    ports.send(3)
    _wait(lambda: len(port.sent) == 2)
    assert [f["state"] for f in ports.take_faults()] == ["back"]
    ports.close()
    assert [code for code, _, _ in other.sent] == [1, 2, 3]
    lines = (tmp_path / "ports.tsv").read_text().splitlines()
    assert sum(line.endswith("\tno") for line in lines) == 1


def test_cues_that_will_not_sound_send_nothing():
    port = _Slow()
    ports = MarkerHub([port])
    when = time.perf_counter() + 0.15
    ports.send(5, when, cue=1)
    ports.send(50, when, cue=2)  # a sham
    ports.send(21, when)  # a decode stays
    ports.send(7, when + 0.02, cue=3)  # a cue that has begun stays
    ports.cancel([1, 2])
    ports.send(6, when + 0.04, cue=4)
    time.sleep(0.3)
    ports.close()
    assert [code for code, _, _ in port.sent] == [21, 7, 6]


@pytest.mark.parametrize("code", [0, 256, -1])
def test_a_code_is_a_byte(code):
    ports = MarkerHub([_Slow()])
    with pytest.raises(ValueError, match="1 to 255"):
        ports.send(code)
    ports.close()


def test_ports_that_are_not_there_are_refused_before_the_night():
    assert open_ports(MarkerSettings()) is None
    with pytest.raises(UserError, match=r"serial.*/dev/nowhere"):
        open_ports(MarkerSettings(serial=SerialSettings(port="/dev/nowhere")))
    with pytest.raises(UserError, match=r"parallel.*/dev/parport9"):
        open_ports(MarkerSettings(parallel=ParallelSettings(port="/dev/parport9")))


def test_published_codes_are_not_given_twice():
    with pytest.raises(ValueError, match="code 21"):
        MarkerSettings(sham_code=21)
    assert MarkerSettings(sham_code=16, stage_codes=(40, 41, 42, 43)).stage_codes == (40, 41, 42, 43)
