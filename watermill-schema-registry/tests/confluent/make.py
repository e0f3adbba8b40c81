"""Writes confluent.json: what Confluent's own Python client writes, with the schemas that it registers.

    pip install "confluent-kafka[avro,json,protobuf]" grpcio-tools
    python -m grpc_tools.protoc -I. --python_out=. events.proto
    python make.py http://localhost:8081
"""
import json
import sys

import confluent_kafka
import events_pb2
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

client = SchemaRegistryClient({"url": sys.argv[1]})
payloads = []


def add(what, serializer, value):
    payload = serializer(value, SerializationContext(what, MessageField.VALUE))
    number = int.from_bytes(payload[1:5], "big")
    found = client.get_schema(number)
    references = [{"name": r.name, "subject": r.subject, "version": r.version} for r in found.references or []]
    schema = {"schema": found.schema_str, "schemaType": found.schema_type, "references": references}
    payloads.append({"what": what, "id": number, "payload": payload.hex(), "schema": schema})


def record(name, fields):
    return {"type": "record", "name": name, "namespace": "hotel", "fields": fields}


booked = record("Booked", [
    {"name": "room", "type": "int"},
    {"name": "note", "type": ["null", "string"], "default": None},
    {"name": "nights", "type": {"type": "array", "items": "long"}},
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["Single", "Double"]}},
    {"name": "price", "type": "double"},
])
value = {"room": 7, "note": "late", "nights": [20000, 20001], "kind": "Double", "price": 99.5}
add("avro", AvroSerializer(client, json.dumps(booked)), value)

guest = record("Guest", [{"name": "name", "type": "string"}])
client.register_schema("hotel.Guest", Schema(json.dumps(guest), "AVRO"))
stay = record("Stay", [{"name": "room", "type": "int"}, {"name": "guest", "type": "hotel.Guest"}])
stay = Schema(json.dumps(stay), "AVRO", [SchemaReference("hotel.Guest", "hotel.Guest", 1)])
add("avro with a reference", AvroSerializer(client, stay), {"room": 7, "guest": {"name": "Ada"}})

schema = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "Booked",
    "type": "object",
    "properties": {"room": {"type": "integer"}},
    "required": ["room"],
}
add("json", JSONSerializer(json.dumps(schema), client), {"room": 7})

current = {"use.deprecated.format": False}
ada = events_pb2.Booked.Guest(name="Ada")
add("protobuf", ProtobufSerializer(events_pb2.Booked, client, current), events_pb2.Booked(room=7, guest=ada))
add("protobuf, second", ProtobufSerializer(events_pb2.Left, client, current), events_pb2.Left(room=7))
add("protobuf, within", ProtobufSerializer(events_pb2.Booked.Guest, client, current), ada)

with open("confluent.json", "w") as file:
    json.dump({"client": f"confluent-kafka {confluent_kafka.__version__}", "payloads": payloads}, file, indent=2)
    file.write("\n")
