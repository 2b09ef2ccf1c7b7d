"""What an object wants audited, by the annotation `headgate.io/audit` of a namespace, a pod or a policy."""

from __future__ import annotations

from flows.cluster.model import AuditMode
from flows.parse.untrusted import Errors, FieldError, JsonObject, describe

AUDIT_ANNOTATION = "headgate.io/audit"
_MODES = {str(mode): mode for mode in AuditMode}


def audit_at(metadata: JsonObject, errors: Errors) -> AuditMode | None:
    """The annotation's value; None without one, and for any other text, which is an error."""
    annotations = metadata.get("annotations")
    value = annotations.get(AUDIT_ANNOTATION) if isinstance(annotations, dict) else None
    if value is None:
        return None
    mode = _MODES.get(value) if isinstance(value, str) else None
    if mode is None:
        path = f"metadata.annotations[{AUDIT_ANNOTATION}]"
        errors.append(FieldError(path, f"must be {', '.join(_MODES)}, not {describe(value)}"))
    return mode
