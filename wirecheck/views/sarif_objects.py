"""The objects of SARIF 2.1.0 that a result of ours needs; numbers in brackets are sections of the standard."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

SCHEMA_URI = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

Grade = Literal["none", "note", "warning", "error"]
BaselineState = Literal["new", "unchanged", "updated", "absent"]


class _Object(BaseModel):
    """The base of every object: frozen, and named in camel case on file."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Message(_Object):
    """A text for people [3.11]."""

    text: str


class ArtifactLocation(_Object):
    """A model, or a file of it: `name/file` [3.4]."""

    uri: str
    uri_base_id: Literal["MODELS"] = "MODELS"


class PhysicalLocation(_Object):
    """The whole artifact [3.29]."""

    artifact_location: ArtifactLocation


class LogicalLocation(_Object):
    """The evidence's own source: file, commit and key, or what was run [3.33]."""

    fully_qualified_name: str


class Location(_Object):
    """Where one piece of evidence can be seen again [3.28]."""

    physical_location: PhysicalLocation
    logical_locations: tuple[LogicalLocation, ...]


class Configuration(_Object):
    """The gravest level a rule was found at [3.50]."""

    level: Grade


class Descriptor(_Object):
    """A finding code, or a way in which a question stays open [3.49]."""

    id: str
    name: str | None = None
    short_description: Message
    full_description: Message
    help: Message
    default_configuration: Configuration


class DescriptorReference(_Object):
    """One of the driver's notifications [3.52]."""

    id: str


class Failure(_Object):
    """The exception that ended a crashed probe [3.59]."""

    kind: str
    message: str


class Notification(_Object):
    """A question that stays open, and why [3.58]."""

    descriptor: DescriptorReference
    level: Grade
    message: Message
    exception: Failure | None = None
    properties: dict[str, Any]


class Invocation(_Object):
    """The call that made the result [3.20]."""

    command_line: str
    execution_successful: bool
    tool_execution_notifications: tuple[Notification, ...]


class Result(_Object):
    """One finding [3.27]."""

    rule_id: str
    rule_index: int
    kind: Literal["pass", "fail"]
    level: Grade
    message: Message
    locations: tuple[Location, ...]
    related_locations: tuple[Location, ...] | None
    partial_fingerprints: dict[str, str]
    baseline_state: BaselineState | None = None
    properties: dict[str, Any]


class Driver(_Object):
    """wirecheck, with the codes found in this run [3.19]."""

    name: Literal["wirecheck"] = "wirecheck"
    version: str | None
    rules: tuple[Descriptor, ...]
    notifications: tuple[Descriptor, ...]


class Tool(_Object):
    """The driver alone [3.18]."""

    driver: Driver


class Base(_Object):
    """What uris are relative to; without a uri of its own, the reader knows the place [3.14.14]."""

    description: Message


class AutomationDetails(_Object):
    """Keeps apart the runs of two pairs that are uploaded to one place [3.17]."""

    id: str


class Run(_Object):
    """The one run of the file [3.14]."""

    tool: Tool
    automation_details: AutomationDetails
    invocations: tuple[Invocation, ...]
    original_uri_base_ids: dict[str, Base]
    results: tuple[Result, ...]
    properties: dict[str, Any]


class Log(_Object):
    """The file [3.13]."""

    schema_uri: str = Field(default=SCHEMA_URI, alias="$schema")
    version: Literal["2.1.0"] = "2.1.0"
    runs: tuple[Run, ...]
