"""Writes the pictures of the page in docs/images: python scripts/page_images.py [FOLDER].

The controller is a real one over switches that are values and count made-up packets; the browser is a headless
Chromium, which `scripts/bootstrap --browser` installs. With a FOLDER, every view comes there instead, in dark and
light, wide and narrow, to be looked at.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the tests' helpers

from tests.helpers.browser.chromium import Chromium, find_browser  # noqa: E402
from tests.helpers.cluster.page_cluster import page_cluster  # noqa: E402
from tests.helpers.controller.page_world import PageWorld, serve  # noqa: E402
from tests.helpers.waiting import until  # noqa: E402

PODS = 150
COUNTED_SECONDS = 12.0  # until every switch was counted twice, so that there are rates
SETTLE_SECONDS = 0.6
_ENDS = "#/explain?from=shop-00%2Fapi-7d9f8b6c5d-00003&to=shop-00%2Fdb-7d9f8b6c5d-00009&port="


class Picture(NamedTuple):
    """A view, how wide and high the window is, the theme, and the expression of what comes last."""

    place: str
    width: int
    height: int
    theme: str
    last: str = "true"


PICTURES = {
    "overview": Picture("#/", 1020, 660, "dark"),
    "matrix": Picture("#/matrix", 1020, 660, "light"),
    "explain": Picture(f"{_ENDS}80", 1020, 1010, "light", "document.querySelector('.end')"),
    "node": Picture(
        "#/node?name=node-1", 1020, 660, "dark", "document.querySelector('.rate').innerText.endsWith('/s')"
    ),
}
VIEWS = {
    "overview": "#/", "graph": "#/graph", "matrix": "#/matrix", "explain": f"{_ENDS}5432", "pods": "#/pods",
    "pod": "#/pod?key=shop-00%2Fapi-7d9f8b6c5d-00003", "policies": "#/policies", "policy": "#/policy?key=shop-00%2Fdb",
    "nodes": "#/nodes", "node": "#/node?name=node-1", "audit": "#/audit", "whatif": "#/whatif",
}  # fmt: skip
SIZES = {"wide": (1440, 900), "narrow": (390, 800)}


def all_views() -> dict[str, Picture]:
    """Every view in every theme and size."""
    return {
        f"{name}-{theme}-{size}": Picture(place, *SIZES[size], theme)
        for name, place in VIEWS.items()
        for theme in ("dark", "light")
        for size in SIZES
    }


def write(pictures: dict[str, Picture], folder: Path, prefix: str) -> None:
    """Look at a controller and write what is seen."""
    program = find_browser()
    if program is None:
        sys.exit("no Chromium here: `scripts/bootstrap --browser` installs one on Debian")
    world = PageWorld(page_cluster(PODS))
    server, browser = serve(world), Chromium(program)
    try:
        until(lambda: (now := world.page.state()).pod_count == PODS and all(one.installed for one in now.pods))
        browser.open(f"http://{server.address}/ui/")
        browser.wait("document.querySelector('main h1')")
        time.sleep(COUNTED_SECONDS)
        for name, one in pictures.items():
            browser.theme(one.theme)
            browser.size(one.width, one.height)
            browser.run(f"location.hash = {one.place!r}")
            shown = f"document.body.dataset.shown === {one.place!r} && !document.querySelector('main[aria-busy]')"
            browser.wait(f"{shown} && {one.last}")
            time.sleep(SETTLE_SECONDS)
            browser.screenshot(folder / f"{prefix}{name}.png")
    finally:
        browser.close()
        server.stop()
        world.stop()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        write(all_views(), Path(sys.argv[1]), "")
    else:
        write(PICTURES, ROOT / "docs" / "images", "page-")
