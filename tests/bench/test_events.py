"""Event files hold the learning curve as TensorBoard reads it: framed and checksummed records of protocol buffers."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event, SessionLog

from bench.events import EventFile
from bench.live import Live

STATE = Live("h", 1, 0.0, 0.0, 0.0, doing="training", epochs=3)


def read(path):
    """TFRecord: length, masked CRC of it, bytes, masked CRC of them (TensorFlow's `record_writer`)."""
    data, events = path.read_bytes(), []
    while data:
        length, crc = struct.unpack("<QI", data[:12])
        body, body_crc = data[12 : 12 + length], struct.unpack("<I", data[12 + length : 16 + length])[0]
        assert (crc, body_crc) == (masked(data[:8]), masked(body))
        events.append(Event.FromString(body))
        data = data[16 + length :]
    return events


def masked(data):
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def scalars(events):
    return [(event.step, value.tag, value.simple_value) for event in events for value in event.summary.value]


def test_a_curve_is_there_as_soon_as_it_is_known(tmp_path):
    write = EventFile(tmp_path, "Task/none/0-0-abc")
    write(replace(STATE, doing="preparing"))
    assert not list(tmp_path.iterdir())  # nothing is made before there is something to tell
    write(replace(STATE, step=10, epoch=1, loss=0.5, dice=None))
    (path,) = (tmp_path / "tensorboard/Task/none/0-0-abc").iterdir()
    assert scalars(read(path)) == [(10, "training/loss", 0.5), (10, "training/epoch", 1.0)]
    checked = replace(STATE, validation_dice=0.5, validated=20)
    write(replace(checked, step=20, epoch=2, loss=0.25, dice=0.75, samples_per_second=8.0))
    write(replace(checked, step=25, epoch=3, loss=0.25))  # of step 20 still
    write(replace(STATE, doing="scoring", step=20, epoch=2, loss=0.25))
    write.ended(30, 0.5)
    names = {"training/loss": 0.25, "training/epoch": 2.0, "training/Dice_of_crops": 0.75}
    assert dict((tag, value) for step, tag, value in scalars(read(path)) if step == 20) == names | {
        "training/samples_a_second": 8.0,
        "validation/Dice_of_crops": 0.5,
    }
    assert [step for step, tag, _ in scalars(read(path)) if tag.startswith("validation")] == [20]
    assert scalars(read(path))[-1] == (30, "held-out/Dice", 0.5)
    assert read(path)[0].file_version == "brain.Event:2"


def test_a_trial_taken_up_again_replaces_what_came_after(tmp_path):
    for step in (10, 20):
        EventFile(tmp_path, "key")(replace(STATE, step=step, loss=1.0))
    files = sorted((tmp_path / "tensorboard" / "key").iterdir())
    starts = [event for path in files for event in read(path) if event.session_log.status == SessionLog.START]
    assert {event.step for event in starts} == {10, 20}


def test_a_folder_that_takes_no_file_raises_what_listeners_may(tmp_path):
    (tmp_path / "tensorboard").touch()
    with pytest.raises(OSError):
        EventFile(tmp_path, "key")(replace(STATE, step=1, loss=1.0))
