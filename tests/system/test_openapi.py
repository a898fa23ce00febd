# SPDX-License-Identifier: Apache-2.0
"""The published API document is well formed and describes what the process serves: no endpoint more, none less."""

import os
import re

import jsonschema
import pytest
import yaml
from coracle import CHECKOUT, MINIMAL_CONFIG

DOCUMENT = os.path.join(CHECKOUT, "packaging", "openapi", "coracle.yaml")
ROUTES = os.path.join(CHECKOUT, "shim", "api_verbs.c")


@pytest.fixture(scope="module", name="document")
def load_document():
    with open(DOCUMENT, encoding="utf-8") as file:
        return yaml.safe_load(file)


def references(node):
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolve(document, reference):
    assert reference.startswith("#/")
    node = document
    for part in reference[2:].split("/"):
        node = node[part]
    return node


def operations(document):
    """{(method, endpoint)} of the document."""
    return {(method.upper(), path.lstrip("/")) for path, item in document["paths"].items() for method in item}


def table():
    """What the process's table of endpoints has: {(method, endpoint)} that are served, endpoints that are refused."""
    with open(ROUTES, encoding="utf-8") as file:
        source = file.read()
    served = set(re.findall(r'^\t(GET|PUT)\("([^"]+)"', source, re.MULTILINE))
    unbuilt = set(re.findall(r'^\tUNBUILT\("([^"]+)"\)', source, re.MULTILINE))
    assert served and unbuilt
    return served, unbuilt


def as_json_schema(document, node):
    """OpenAPI 3.0's dialect in words that a validator of JSON Schema knows."""
    if isinstance(node, list):
        return [as_json_schema(document, value) for value in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return as_json_schema(document, resolve(document, node["$ref"]))
    schema = {key: as_json_schema(document, value) for key, value in node.items() if key not in ("format", "nullable")}
    if node.get("nullable") is True:
        schema["type"] = [node["type"], "null"]
    return schema


def check(document, name, value):
    jsonschema.validate(value, as_json_schema(document, document["components"]["schemas"][name]))


def test_every_reference_leads_somewhere(document):
    found = set(references(document))
    assert found
    for reference in found:
        assert isinstance(resolve(document, reference), dict)


def test_nothing_is_described_that_nobody_refers_to(document):
    used = set(references(document))
    for kind in ("schemas", "responses"):
        for name in document["components"][kind]:
            # An event is what the stream carries, whose type has no room for a schema.
            assert f"#/components/{kind}/{name}" in used or name == "Event"


def test_every_value_of_an_enumeration_is_a_string(document):
    """Off and Null are a boolean and nothing to YAML, unless they are quoted."""
    schemas = document["components"]["schemas"].values()
    described = [*schemas, *(member for schema in schemas for member in schema.get("properties", {}).values())]
    values = [value for node in described for value in node.get("enum", ())]
    assert values and all(isinstance(value, str) for value in values)


def test_required_members_and_defaults_are_members_of_their_type(document):
    types = {"boolean": bool, "integer": int, "string": str}
    for name, schema in document["components"]["schemas"].items():
        properties = schema.get("properties", {})
        assert set(schema.get("required", ())) <= set(properties), name
        for member, described in properties.items():
            if "default" in described:
                assert type(described["default"]) is types[described["type"]], f"{name}.{member}"
                assert described["default"] in described.get("enum", [described["default"]]), f"{name}.{member}"


def test_document_and_table_of_endpoints_are_the_same(document):
    assert operations(document) == table()[0]


def test_every_documented_endpoint_is_served_by_its_method_alone(document, vmm):
    for method, name in sorted(operations(document)):
        # By the wrong method nothing is done, and the answer says what is right.
        response = vmm.api("PUT" if method == "GET" else "GET", name)
        assert response.status == 400
        assert response.json()[-1] == f"{name} is for {method}"


def test_endpoints_that_are_not_built_are_not_documented_and_say_so(document, vmm):
    documented = {name for _, name in operations(document)}
    for name in sorted(table()[1]):
        assert name not in documented
        response = vmm.api("PUT", name)
        assert response.status == 404
        assert response.json()[-1] == f"{name} is not part of this version"


def test_endpoints_that_want_a_body_are_documented_so(document, vmm):
    for method, name in sorted(operations(document)):
        if method != "PUT" or name == "vmm.shutdown":
            continue
        wanted = document["paths"][f"/{name}"]["put"].get("requestBody", {}).get("required", False)
        response = vmm.api("PUT", name, None if wanted else {})
        assert response.status == 400
        assert response.json()[-1] == f"{name} {'needs a' if wanted else 'takes no'} body"


def test_answers_fit_their_schemas(document, vmm):
    check(document, "VmmPingResponse", vmm.ping())
    check(document, "Error", vmm.api("GET", "vm.info").json())
    check(document, "VmConfig", MINIMAL_CONFIG)
    vmm.put("vm.create", {**MINIMAL_CONFIG, "disks": [{"path": "/a"}], "net": [{"mtu": 1400}]})
    check(document, "VmInfo", vmm.info())
    check(document, "Error", vmm.api("PUT", "vm.create", {"payload": {}}).json())


def test_events_fit_their_schema(document, vmm):
    vmm.put("vm.create", MINIMAL_CONFIG)
    vmm.put("vm.delete")
    stream = vmm.events(last_event_id=0)
    for name in ("vmm:starting", "vm:deleted"):
        event = stream.next()
        assert event.name == name
        check(document, "Event", event.data)
