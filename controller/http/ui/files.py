"""The files of the page, read once from the package, with the headers that bound what a browser does with them.

Everything comes from here: the content security policy lets nothing be loaded from elsewhere, no script stand in a
page, no text become markup (trusted types), and no other page frame this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from werkzeug.wrappers import Response

FOLDER = Path(__file__).with_name("static")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
INDEX = "index.html"
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def read_files(folder: Path = FOLDER) -> Mapping[str, tuple[str, bytes]]:
    """The content type and the bytes of each file, by name."""
    return {one.name: (TYPES[one.suffix], one.read_bytes()) for one in sorted(folder.iterdir()) if one.suffix in TYPES}


def file_answer(content_type: str, data: bytes) -> Response:
    """The answer with a file."""
    return Response(data, content_type=content_type, headers=HEADERS)
