"""All findings about manifests, each with its file and line, without those that a comment silences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from controller.cli.check.silence import Silenced, silenced_in
from controller.sources.offline import ManifestText, OfflineCluster, assemble
from controller.sources.placed import ASSERTIONS_KIND, PlacedManifests, PlacedObject, place_manifests
from controller.sources.unit import SourceUnit
from flows.cluster.model import ClusterPolicy, Policy, Workload
from flows.lint.assertion_parse import parse_assertions
from flows.lint.assertions import failures
from flows.lint.codes import CODES, TWICE, UNKNOWN_CODE, UNREADABLE, Finding
from flows.lint.fields import field_finding
from flows.lint.lint import lint
from flows.parse.untrusted import Errors


@dataclass(frozen=True, slots=True)
class Located:
    """A finding, its file and its line (from 1)."""

    finding: Finding
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Checked:
    """The findings, in the order of files and lines, how many were silenced, and what was read."""

    findings: tuple[Located, ...]
    silenced: int
    files: int
    policies: int
    cluster: OfflineCluster


def check(texts: Iterable[ManifestText], beside: Iterable[ManifestText] = ()) -> Checked:
    """Check manifests. Objects of `beside` are there too, as those of a cluster, and are not checked themselves."""
    placed, known = place_manifests(texts), place_manifests(beside)
    cluster = assemble(_units((*known.objects, *placed.objects)), ())
    found = [*_read_findings(placed), *_policy_findings(placed, cluster), *_assertion_findings(placed, cluster)]
    comments = {file.name: silenced_in(file.text) for file in placed.files}
    found += [one for file in placed.files for one in _unknown_codes(file.name, comments[file.name])]
    kept = [one for one in found if not _is_silenced(one, comments)]
    kept.sort(key=lambda one: (one.file, one.line, one.finding.code.number, one.finding.field))
    policies = sum(isinstance(one.parsed.value, Policy | ClusterPolicy) for one in placed.objects)
    return Checked(tuple(dict.fromkeys(kept)), len(found) - len(kept), len(placed.files), policies, cluster)


def _units(objects: Sequence[PlacedObject]) -> list[SourceUnit]:
    return [SourceUnit((one.parsed,)) for one in objects]


def _read_findings(placed: PlacedManifests) -> Iterator[Located]:
    """What could not be read or parsed, and objects that are there twice."""
    for error in placed.errors:
        kind, _, key = error.key.partition(" ")
        finding = field_finding(kind, key, error.error)
        if error.syntax:
            finding = Finding(UNREADABLE, "", "", error.error.field, str(error.error))
        yield Located(finding, error.place.file.name, error.line or error.place.line_of(error.error.field))
    first: dict[tuple[str, object], PlacedObject] = {}
    for one in placed.objects:
        before = first.setdefault((_identity(one), one.parsed.name), one)
        # Equal objects are no mistake: many files hold their namespace.
        if before.parsed.value != one.parsed.value:
            text = f"is also in {before.place.file.name}, line {before.place.line}, and differs"
            finding = Finding(TWICE, one.parsed.kind, str(one.parsed.name), "metadata.name", text)
            yield Located(finding, one.place.file.name, one.place.line_of("metadata.name"))


def _identity(one: PlacedObject) -> str:
    return one.parsed.value.kind if isinstance(one.parsed.value, Workload) else one.parsed.kind


def _policy_findings(placed: PlacedManifests, cluster: OfflineCluster) -> Iterator[Located]:
    """What is likely wrong in the policies that are checked; the last of two of one name counts."""
    places = {
        (
            one.parsed.kind if isinstance(one.parsed.value, Policy) else one.parsed.value.kind,
            str(one.parsed.value.key),
        ): one.place
        for one in placed.objects
        if isinstance(one.parsed.value, Policy | ClusterPolicy)
    }
    for finding in lint(cluster.cluster):
        place = places.get((finding.kind, finding.key))
        if place is not None:
            yield Located(finding, place.file.name, place.line_of(finding.field))


def _assertion_findings(placed: PlacedManifests, cluster: OfflineCluster) -> Iterator[Located]:
    """The assertions that do not hold, or cannot be read."""
    for body, place in placed.assertions:
        errors: Errors = []
        wanted = parse_assertions(body, errors)
        for error in errors:
            finding = field_finding(ASSERTIONS_KIND, _name(body), error)
            yield Located(finding, place.file.name, place.line_of(error.field))
        for one in failures(cluster.cluster, wanted):
            title = f"{one.assertion.name!r}: " if one.assertion.name else ""
            finding = Finding(one.code, ASSERTIONS_KIND, _name(body), one.assertion.field, f"{title}{one.message}")
            yield Located(finding, place.file.name, place.line_of(one.assertion.field))


def _name(body: object) -> str:
    """The name of an object of assertions, "" where it has none."""
    metadata = body.get("metadata") if isinstance(body, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""


def _unknown_codes(file: str, comments: Silenced) -> Iterator[Located]:
    for line, code in comments.named:
        if code not in CODES:
            yield Located(Finding(UNKNOWN_CODE, "", "", "", f"{code} is no code of a finding"), file, line)


def _is_silenced(one: Located, comments: dict[str, Silenced]) -> bool:
    found = comments.get(one.file)
    return found is not None and found.covers(one.finding.code.number, one.line)
