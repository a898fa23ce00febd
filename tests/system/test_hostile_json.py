# SPDX-License-Identifier: Apache-2.0
"""JSON that is giant, deep, broken, or of the wrong type at any place of a configuration: a 400 that says what and where,
and nothing has changed."""

import json
import os
import re

import pytest
import yaml
from coracle import CHECKOUT, MINIMAL_CONFIG, Coracle
from usage import Usage, check_growth

MIB = 1 << 20
MAX_BODY = 4 * MIB
DOCUMENT = os.path.join(CHECKOUT, "packaging", "openapi", "coracle.yaml")


@pytest.fixture(scope="module")
def vmm():
    """One process for all: whatever it keeps adds up."""
    with Coracle() as process:
        process.ping()
        before = Usage(process)
        yield process
        check_growth(process, before, 2048)


@pytest.fixture(autouse=True)
def nothing_changes(vmm):
    vmm.put("vm.delete")
    yield
    assert vmm.state() is None


def refusal(vmm, body, name="vm.create"):
    """The last message of the 400 that it gets."""
    with vmm.connect() as client:
        answer = client.request("PUT", f"/api/v1/{name}", body)
        assert answer.status == 400, answer
        assert len(answer.body) <= 800 and answer.body.isascii()
        # The connection is as good as before.
        assert client.request("GET", "/api/v1/vmm.ping").status == 200
    return answer.json()[-1]


def accepted(vmm, body):
    answer = vmm.api("PUT", "vm.create", body)
    vmm.put("vm.delete")
    assert answer.status == 204, answer


def with_member(text):
    """A good configuration but for one more member, whose value is the text."""
    return b'{"payload":{"kernel":"/k"},"x":' + text + b"}"


# --- giant -----------------------------------------------------------------------------------------------------------


def filled(unit, length):
    """A good configuration with a list of so many units that it has just this length."""
    empty = with_member(b"[]")
    count, rest = divmod(length - len(empty) - len(unit) + 1, len(unit))
    return with_member(b"[" + unit * count + unit[:-1] + b" " * rest + b"]")


def test_string_that_fills_the_largest_body_is_read(vmm):
    for length in (MAX_BODY - 1, MAX_BODY):
        body = with_member(b'"%s"' % (b"x" * (length - len(with_member(b'""')))))
        assert len(body) == length
        accepted(vmm, body)


@pytest.mark.parametrize("more", [1, 1000, MAX_BODY])
def test_body_over_the_limit_is_refused_before_it_is_read(vmm, more):
    with vmm.connect() as client:
        client.send(b"PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + more))
        answer = client.read_response()
        assert answer.status == 400 and answer.json()[-1] == "The body is larger than 4 MiB"
        assert client.is_closed()


@pytest.mark.parametrize(
    "unit, words",
    [
        (b"0,", "131072 values"),
        (b'"",', "131072 values"),
        (b"null,", "131072 values"),
        (b"1e300,", "131072 values"),
        (b"[],", "16384 arrays and objects"),
        (b"{},", "16384 arrays and objects"),
        (b'{"a":0},', "16384 arrays and objects"),
        (b"[[[[[[]]]]]],", "16384 arrays and objects"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_bomb_of_small_values_is_refused_before_it_costs_anything(vmm, unit, words):
    before = vmm.rss_kib()
    message = refusal(vmm, filled(unit, MAX_BODY))
    assert "more than " + words in message and "line 1 column " in message
    assert vmm.is_sanitized() or vmm.rss_kib() < before + 8192


def test_many_members_are_read_and_too_many_refused(vmm):
    def members(count):
        return b'{"payload":{"kernel":"/k"},' + b",".join(b'"%x":0' % i for i in range(count)) + b"}"

    accepted(vmm, members(100000))
    assert "131072 values" in refusal(vmm, members(300000))


@pytest.mark.parametrize(
    "text",
    [
        b"9" * 1000000,
        b"-" + b"9" * 20,
        b"9223372036854775808",
        b"1e999",
        b"-1e400",
        b"1" + b"0" * 400 + b".0",
        b"0x10",
        b"01",
        b"1.",
        b".5",
        b"1e",
        b"+1",
        b"--1",
        b"Infinity",
        b"NaN",
        b"1" * 100 + b"\x00",
    ],
    ids=lambda text: f"{text[:8]!r}-{len(text)}",
)
def test_number_that_is_none_or_out_of_range_is_refused(vmm, text):
    assert "Invalid JSON at line 1 column " in refusal(vmm, with_member(text))
    assert "Invalid JSON at line 2 column " in refusal(vmm, b'{"cpus":{\n"boot_vcpus":' + text + b"}}")


def test_long_but_plain_numbers_are_read(vmm):
    for text in (b"1e-999", b"0." + b"3" * 1000000, b"9223372036854775807", b"-0", b"1E+300"):
        accepted(vmm, with_member(text))


# --- deep ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "opening, closing", [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]"), (b' [ \n\t{ "\\"[" : ', b"}]")]
)
def test_nesting_bombs(vmm, opening, closing):
    levels = 2 if b"[{" in opening or b"{ " in opening else 1
    most = (64 - 1) // levels
    accepted(vmm, with_member(opening * most + b"0" + closing * most))
    for depth in (most + 1, 2048 // levels + 1, 100000, (MAX_BODY - 100) // len(opening + closing)):
        for body in (opening * depth + b"0" + closing * depth, opening * depth):
            assert "nested deeper than 64 levels" in refusal(vmm, with_member(body))
    assert "64 levels" in refusal(vmm, opening * 1000)


# --- broken ----------------------------------------------------------------------------------------------------------

BROKEN = {
    "NUL": b'"a\x00b"',
    "NUL for a value": b"\x00",
    "escaped NUL": b'"a\\u0000b"',
    "lone byte": b'"\x80"',
    "cut sequence": b'"\xe2\x82"',
    "overlong slash": b'"\xc0\xaf"',
    "overlong NUL": b'"\xc0\x80"',
    "overlong in four bytes": b'"\xf0\x80\x80\xaf"',
    "surrogate in UTF-8": b'"\xed\xa0\x80"',
    "beyond Unicode": b'"\xf4\x90\x80\x80"',
    "five bytes": b'"\xf8\x88\x80\x80\x80"',
    "byte that is never used": b'"\xff"',
    "high surrogate alone": b'"\\ud800"',
    "low surrogate alone": b'"\\udc00"',
    "surrogates the wrong way round": b'"\\udc00\\ud800"',
    "high surrogate twice": b'"\\ud800\\ud800"',
    "unknown escape": b'"\\x41"',
    "half an escape": b'"\\u12"',
    "control character": b'"\x01"',
    "line end in a string": b'"a\nb"',
    "no end of a string": b'"abc',
    "single quotes": b"'a'",
    "comment": b"/* */ 1",
    "comma at the end": b"[1,]",
    "no comma": b"[1 2]",
    "no value": b"",
    "word": b"yes",
    "half a word": b"tru",
    "wrong bracket": b"[}",
    "brackets that close too much": b"]]]]",
    "duplicate": b'{"a":1,"a":1}',
    "duplicate by an escape": b'{"a":1,"\\u0061":1}',
    "key that is none": b"{1:1}",
    "key with a NUL": b'{"a\\u0000":1}',
    "key that is no UTF-8": b'{"\xff":1}',
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_text_is_refused_with_its_place(vmm, what):
    for name in ("vm.create", "vm.add-disk", "vm.add-net"):
        assert "Invalid JSON at line 3 column " in refusal(vmm, b"{\n\n" + b'"x":' + BROKEN[what] + b"}", name)


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf" + with_member(b"1"),
        with_member(b"1").decode().encode("utf-16"),
        with_member(b"1").decode().encode("utf-16-le"),
        with_member(b"1").decode().encode("utf-32-be"),
        with_member(b"1") + b"\x00",
        with_member(b"1") * 2,
        with_member(b"1") + b",",
        b"\x00",
        b" ",
        b"\xff" * 10000,
        b'{"payload":{"kernel":"/k"},"payload":{"kernel":"/k"}}',
        b'"' * 999999,
        b"\\" * 1000000,
        b'"' + b"\\" * 1000000,
    ],
    ids=lambda body: f"{body[:6]!r}-{len(body)}",
)
def test_broken_document_is_refused(vmm, body):
    assert "Invalid JSON at line 1 column " in refusal(vmm, body)


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"{}"', b"true", b"1.5", b"[{}]"])
def test_document_that_is_no_object_is_refused(vmm, body):
    assert "expected an object" in refusal(vmm, body)


def test_configuration_cut_at_every_byte_is_refused(vmm):
    text = json.dumps(MINIMAL_CONFIG).encode()
    for length in range(1, len(text)):
        refusal(vmm, text[:length])


# --- wrong at every place of the document --------------------------------------------------------------------------------

WRONG = {
    "integer": ["1", 1.5, True, [], {}, [1]],
    "string": [1, 1.5, True, [], {}, ["x"]],
    "boolean": [0, 1, "true", [], {}, 0.5],
    "array": [1, "x", True, {}, 1.5],
    "object": [1, "x", True, [], 1.5],
}


class Places:
    """Walks the document's schemas. wrong(schema): (path, value of the schema that is wrong just there)."""

    def __init__(self):
        with open(DOCUMENT, encoding="utf-8") as file:
            self.schemas = yaml.safe_load(file)["components"]["schemas"]

    def resolve(self, node):
        while True:
            if "$ref" in node:
                node = self.schemas[node["$ref"].rsplit("/", 1)[1]]
            elif "allOf" in node:
                node = node["allOf"][0]
            else:
                return node

    def minimal(self, schema):
        """The least that is of the schema's type."""
        schema = self.resolve(schema)
        kind = schema.get("type", "object")
        if kind == "object":
            return {name: self.minimal(schema["properties"][name]) for name in schema.get("required", ())}
        if kind == "array":
            return []
        if "enum" in schema:
            return schema["enum"][0]
        return schema.get("default", {"integer": schema.get("minimum", 1), "string": "x", "boolean": False}[kind])

    def out_of_range(self, schema):
        if schema["type"] == "integer":
            yield from (-1, -(2**63))
            if schema.get("minimum", 0) > 0:
                yield schema["minimum"] - 1
            if "maximum" in schema:
                yield schema["maximum"] + 1
        if "enum" in schema:
            yield from ("", "nothing of that", schema["enum"][0] + "\u00e9", schema["enum"][0] * 1000)

    def wrong(self, schema, path=""):
        schema = self.resolve(schema)
        kind = schema.get("type", "object")
        if path:
            for value in WRONG[kind]:
                yield path, value
            # A descriptor comes with the request: its number may be any.
            if kind in ("integer", "string") and not re.search(r"(\b|_)fds?(\[0\])?$", path):
                yield from ((path, value) for value in self.out_of_range(schema))
        if kind == "array":
            for where, value in self.wrong(schema["items"], f"{path}[0]"):
                yield where, [value]
        for name, member in schema.get("properties", {}).items():
            for where, value in self.wrong(member, f"{path}.{name}" if path else name):
                yield where, {**self.minimal(schema), name: value}


PLACES = Places()


@pytest.mark.parametrize("member", sorted(PLACES.schemas["VmConfig"]["properties"]))
def test_wrong_type_or_range_at_any_place_is_refused_by_its_path(vmm, member):
    base = {"payload": {"kernel": "/k"}, "serial": {"mode": "Off"}, "console": {"mode": "Off"}}
    with vmm.connect() as client:
        for path, value in PLACES.wrong(PLACES.schemas["VmConfig"]["properties"][member], member):
            answer = client.request("PUT", "/api/v1/vm.create", {**base, member: value})
            message = answer.json()[-1] if answer.body else ""
            assert answer.status == 400 and message.startswith(f"{path}: "), (path, value, answer)


@pytest.mark.parametrize("name, schema", [("vm.add-disk", "DiskConfig"), ("vm.add-net", "NetConfig")])
def test_wrong_type_or_range_of_what_is_added_is_refused_by_its_path(vmm, name, schema):
    with vmm.connect() as client:
        for path, value in PLACES.wrong(PLACES.schemas[schema]):
            answer = client.request("PUT", f"/api/v1/{name}", value)
            message = answer.json()[-1] if answer.body else ""
            assert answer.status == 400 and message.startswith(f"{path}: "), (path, value, answer)


def test_lists_have_a_bound(vmm):
    for path, config in (
        ("disks", {"disks": [{}] * 16000}),
        ("net", {"net": [{}] * 16000}),
        ("numa[0].cpus", {"numa": [{"guest_numa_id": 0, "cpus": [0] * 10000}]}),
        ("platform.oem_strings", {"platform": {"oem_strings": ["x"] * 100000}}),
    ):
        message = refusal(vmm, json.dumps({"payload": {"kernel": "/k"}, **config}).encode())
        assert message.startswith(path) and "more than" in message
