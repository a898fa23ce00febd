# SPDX-License-Identifier: Apache-2.0
"""The event monitor and the event stream, as their readers see them. No guest is booted."""

import json
import os
import threading
import time

import pytest
from coracle import MINIMAL_CONFIG, Coracle, wait_until
from http_client import request_bytes


def make_events(vmm, count):
    """Has `count` events happen: one vm:deleted each."""
    pair = request_bytes("PUT", "/api/v1/vm.create", MINIMAL_CONFIG) + request_bytes("PUT", "/api/v1/vm.delete")
    with vmm.connect() as client:
        for _ in range(count):
            client.send(pair)
            assert client.read_response().status == 204
            assert client.read_response().status == 204


def split_by_braces(text):
    """How libvirt finds the end of an event: it counts braces and knows nothing of strings."""
    depth = start = 0
    for i, char in enumerate(text):
        if char == "{":
            if depth == 0:
                start = i
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                yield text[start : i + 1]
    assert depth == 0


def names(events):
    return [f"{event['source']}:{event['event']}" for event in events]


def parse_monitor(text):
    events = [json.loads(part) for part in split_by_braces(text)]
    for event in events:
        assert list(event) == ["timestamp", "source", "event", "properties"]
        assert list(event["timestamp"]) == ["secs", "nanos"]
        assert 0 <= event["timestamp"]["nanos"] < 10**9
        properties = event["properties"]
        assert properties is None or all(isinstance(value, str) for value in properties.values())
    times = [(event["timestamp"]["secs"], event["timestamp"]["nanos"]) for event in events]
    assert times == sorted(times)
    return events


class FifoReader:
    """Reads a FIFO to its end on a thread; writes[i] = what the i-th read(2) gave."""

    def __init__(self, path):
        self.text = ""
        self.ended = False
        self.file = os.open(path, os.O_RDONLY)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        while data := os.read(self.file, 65536):
            self.text += data.decode("ascii")
        self.ended = True
        os.close(self.file)


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "events"
    os.mkfifo(path, 0o600)
    return str(path)


# --- the event monitor ---------------------------------------------------------------------------------------------------


def test_fifo_that_is_opened_late(fifo):
    """libvirt starts the VMM first and opens the reading end then; nothing is served until it has, nothing is lost."""
    with Coracle(event_monitor=f"path={fifo}") as vmm:
        with vmm.connect() as client:
            client.send(request_bytes("GET", "/api/v1/vmm.ping"))
            assert client.is_silent(0.5)
            reader = FifoReader(fifo)
            assert client.read_response().status == 200
        make_events(vmm, 2)
        wait_until(lambda: reader.text.count("\n\n") >= 3)
        assert not reader.ended
        vmm.put("vmm.shutdown")
        assert vmm.wait() == 0
        wait_until(lambda: reader.ended)
    assert names(parse_monitor(reader.text)) == ["vmm:starting", "vm:deleted", "vm:deleted", "vmm:shutdown"]


def test_format_is_indented_json_with_an_empty_line_behind(tmp_path):
    path = tmp_path / "events"
    path.write_text("from an earlier life")
    with Coracle(event_monitor=f"path={path}") as vmm:
        vmm.ping()
        text = path.read_text()
    secs, nanos = json.loads(text)["timestamp"].values()
    assert text == (
        "{\n"
        '  "timestamp": {\n'
        f'    "secs": {secs},\n'
        f'    "nanos": {nanos}\n'
        "  },\n"
        '  "source": "vmm",\n'
        '  "event": "starting",\n'
        '  "properties": null\n'
        "}\n\n"
    )


def test_inherited_descriptor(tmp_path):
    reading, writing = os.pipe()
    with Coracle(event_monitor=f"fd={writing}", pass_fds=[writing]) as vmm:
        os.close(writing)
        vmm.put("vmm.shutdown")
        assert vmm.wait() == 0
    with os.fdopen(reading) as file:
        assert names(parse_monitor(file.read())) == ["vmm:starting", "vmm:shutdown"]


def test_reader_that_stops_reading_holds_up_nothing_and_gets_whole_events(fifo):
    with Coracle(event_monitor=f"path={fifo}") as vmm:
        reading = os.open(fifo, os.O_RDONLY)
        make_events(vmm, 2500)
        assert vmm.ping()
        os.set_blocking(reading, True)
        thread_text = []

        def drain():
            while data := os.read(reading, 65536):
                thread_text.append(data.decode("ascii"))

        thread = threading.Thread(target=drain)
        thread.start()
        vmm.put("vmm.shutdown")
        assert vmm.wait() == 0
        thread.join()
    os.close(reading)
    events = parse_monitor("".join(thread_text))
    assert 100 < len(events) < 2502
    assert names(events)[0] == "vmm:starting"


def test_reader_that_goes_away_ends_nothing(fifo):
    with Coracle(event_monitor=f"path={fifo}") as vmm:
        os.close(os.open(fifo, os.O_RDONLY))
        vmm.ping()
        make_events(vmm, 10)
        reader = FifoReader(fifo)
        make_events(vmm, 2)
        wait_until(lambda: reader.text.count("\n\n") >= 2)
        vmm.put("vmm.shutdown")
        assert vmm.wait() == 0


# --- the event stream ----------------------------------------------------------------------------------------------------


def test_stream_has_no_length_and_tells_its_type(vmm):
    with vmm.events() as stream:
        assert stream.head.status_line == "HTTP/1.1 200 "
        assert stream.head.header("Content-Type") == "text/event-stream"
        assert stream.head.header("Content-Length") is None


def test_stream_begins_with_what_happens_from_now_on(vmm):
    make_events(vmm, 3)
    with vmm.events() as stream:
        stream.read_block()
        assert stream.last_id == 4  # vmm:starting and three more
        make_events(vmm, 1)
        event = stream.next()
        assert (event.id, event.name) == (5, "vm:deleted")
        assert list(event.data) == ["timestamp", "source", "event", "properties"]


def test_replay_of_all_there_is(vmm):
    make_events(vmm, 3)
    with vmm.events(last_event_id=0) as stream:
        events = [stream.next() for _ in range(4)]
        assert [event.id for event in events] == [1, 2, 3, 4]
        assert [event.name for event in events] == ["vmm:starting"] + 3 * ["vm:deleted"]


def test_replay_goes_on_where_the_client_was(vmm):
    make_events(vmm, 5)
    with vmm.events(last_event_id=4) as stream:
        assert [stream.next().id for _ in range(2)] == [5, 6]
        make_events(vmm, 1)
        assert stream.next().id == 7
    with vmm.events(last_event_id=stream.last_id) as stream:
        make_events(vmm, 1)
        assert stream.next().id == 8


def test_gap_is_announced(vmm):
    make_events(vmm, 1500)
    with vmm.events(last_event_id=2) as stream:
        gap = stream.next()
        assert gap.name == "gap"
        assert gap.data["missed_from"] == 3 and gap.data["reason"] == "overrun"
        event = stream.next()
        assert event.id == gap.data["missed_to"] + 1
        # 1,500 events and vmm:starting; the ring holds about a thousand.
        assert 100 < event.id <= 1501 - 500
        numbers = [stream.next().id for _ in range(1501 - event.id)]
        assert numbers == list(range(event.id + 1, 1502))


def test_number_from_another_life_is_announced(vmm):
    make_events(vmm, 1)
    with vmm.events(last_event_id=1000) as stream:
        gap = stream.next()
        assert gap.name == "gap" and gap.data["reason"] == "unknown-id"
        assert [stream.next().id for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("value", ["x", "-1", "1 2", "", "0x10", "99999999999999999999", "1" * 200])
def test_number_that_is_none_is_refused(vmm, value):
    with vmm.connect() as client:
        response = client.request("GET", "/api/v1/vmm.events", headers=[f"Last-Event-ID: {value}"])
        assert response.status == 400
        assert client.request("GET", "/api/v1/vmm.ping").status == 200


def test_many_subscribers(vmm):
    streams = [vmm.events() for _ in range(100)]
    make_events(vmm, 3)
    for stream in streams:
        assert [stream.next().id for _ in range(3)] == [2, 3, 4]
    before = len(vmm.fds())
    for stream in streams:
        stream.close()
    wait_until(lambda: len(vmm.fds()) <= before - 100)
    make_events(vmm, 1)


def test_slow_subscriber_holds_up_nothing_and_is_told_what_it_missed(vmm):
    with vmm.events() as slow, vmm.events() as quick:
        make_events(vmm, 300)
        for _ in range(300):
            quick.next()
        before = vmm.rss_kib()
        started = time.monotonic()
        make_events(vmm, 3500)
        assert vmm.ping()
        assert time.monotonic() - started < 60
        assert vmm.is_sanitized() or vmm.rss_kib() < before + 8192
        numbers, gaps = [], []
        while not numbers or numbers[-1] < 3801:
            event = slow.next()
            (gaps if event.name == "gap" else numbers).append(event.data if event.name == "gap" else event.id)
        missed = [n for gap in gaps for n in range(gap["missed_from"], gap["missed_to"] + 1)]
        assert gaps
        assert sorted(numbers + missed) == list(range(2, 3802))


def test_stream_ends_with_the_last_event(vmm):
    with vmm.events() as stream:
        vmm.put("vmm.shutdown")
        assert stream.wait_for("vmm:shutdown")
        with pytest.raises(EOFError):
            stream.next()
    assert vmm.wait(3) == 0


def test_client_that_reads_no_more_does_not_delay_the_end(vmm):
    with vmm.events():
        make_events(vmm, 2000)
        started = time.monotonic()
        vmm.put("vmm.shutdown")
        assert vmm.wait() == 0
        assert time.monotonic() - started < 3


def test_what_a_subscriber_sends_is_thrown_away(vmm):
    with vmm.events() as stream:
        descriptor = os.open("/dev/null", os.O_RDONLY)
        before = len(vmm.fds())
        for _ in range(50):
            stream.client.send(b"x" * 10000, [descriptor])
        make_events(vmm, 1)
        assert stream.next().id == 2
        wait_until(lambda: len(vmm.fds()) <= before)
        os.close(descriptor)


def test_heartbeat(vmm):
    with vmm.events() as stream:
        stream.read_block()
        assert stream.comments == 1
        started = time.monotonic()
        assert stream.read_block() == {}
        assert stream.comments == 2
        assert 10 < time.monotonic() - started < 25
