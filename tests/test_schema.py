"""Records are read by the types of their class."""

from dataclasses import dataclass

from reconverge import schema


@dataclass
class Line:
    update: int
    loss: float


def test_the_types_of_a_record_are_read_once_of_many(monkeypatch):
    asked = []
    types_of = schema.get_type_hints
    monkeypatch.setattr(schema, "get_type_hints", lambda kind: asked.append(kind) or types_of(kind))
    found = [schema.read_record(Line, {"update": i, "loss": 1.5}, "x") for i in range(3)]
    assert found == [Line(i, 1.5) for i in range(3)]
    assert asked == [Line]
