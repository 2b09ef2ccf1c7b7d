"""The page in a real browser: every view, keyboard and screen reader, hostile names, 2,000 pods, what is exported."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator

import pytest

from controller.cli import main as headgate_main
from controller.http.server import HttpServer
from controller.status.audit_model import AuditEnd, AuditEvent
from tests.helpers.browser.chromium import Chromium, find_browser
from tests.helpers.cluster.page_cluster import page_cluster
from tests.helpers.controller.page_world import PageWorld, serve
from tests.helpers.waiting import until

PROGRAM = find_browser()
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        PROGRAM is None, reason="no Chromium here: `scripts/bootstrap --browser` installs one on Debian"
    ),
]
HOSTILE = "<img src=x onerror=alert(1)>'\"><script>alert(2)</script>"
TOKEN = "0123456789abcdef0123456789abcdef"
SHOWN = "document.body.dataset.shown"


class Site:
    """A controller with its page, and the browser that looks at it."""

    def __init__(self, world: PageWorld, server: HttpServer, browser: Chromium) -> None:
        self.world, self.server, self.browser = world, server, browser
        self.url = f"http://{server.address}/ui/"

    def go(self, place: str) -> None:
        """Open a view and wait until it is there."""
        self.browser.run(f"location.hash = {place!r}")
        self.browser.wait(f"{SHOWN} === {place!r} && !document.querySelector('main[aria-busy]')")

    def text(self, selector: str = "main") -> str:
        return str(self.browser.run(f"document.querySelector({selector!r})?.innerText ?? ''"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    assert PROGRAM is not None
    found = Chromium(PROGRAM)
    yield found
    found.close()


def _ready(world: PageWorld, pods: int) -> None:
    until(lambda: (now := world.page.state()).pod_count == pods and all(one.installed for one in now.pods))


@pytest.fixture(scope="module")
def site(browser: Chromium) -> Iterator[Site]:
    world = PageWorld(page_cluster(40))
    server = serve(world)
    _ready(world, 40)
    found = Site(world, server, browser)
    browser.open(found.url)
    browser.wait("document.querySelector('main h1')")
    yield found
    server.stop()
    world.stop()


VIEWS = {
    "#/": "Everything is realized",
    "#/graph": "Choose a workload",
    "#/matrix": "A cell has the ports",
    "#/explain": "Name two ends",
    "#/explain?from=shop-00%2Fapi%5BDeployment%5D&to=shop-00%2Fdb%5BDeployment%5D&port=5432": "stands for",
    "#/pods": "40 of 40 pods",
    "#/policies": "shop-00/default-deny",
    "#/policy?key=shop-00%2Fdb": "As Headgate understood it",
    "#/nodes": "node-1",
    "#/node?name=node-1": "ingress_default",
    "#/audit": "Nothing is audited until somebody asks",
    "#/whatif": "Nothing is applied",
}


@pytest.mark.parametrize("place", VIEWS)
def test_every_view_has_a_link_a_command_and_an_export_and_nothing_fails(site: Site, place: str) -> None:
    site.browser.errors.clear()
    site.go(place)
    site.browser.wait(f"document.querySelector('main').innerText.includes({VIEWS[place]!r})")
    tools = site.text(".head")
    assert "Copy link" in tools and "Export" in tools
    program, *arguments = shlex.split(site.text("[data-command]"))
    assert program == "headgate"
    if not {"FILE", "SRC"} & set(arguments):
        once = [one for one in arguments if one != "--follow"]
        assert headgate_main(["--server", f"http://{site.server.address}", *once]) == 0
    assert site.browser.errors == []
    # A link to the same place opens the same view.
    site.browser.open("about:blank")
    site.browser.open(site.url + place)
    site.browser.wait(f"document.querySelector('main').innerText.includes({VIEWS[place]!r})")


def test_nothing_is_loaded_from_elsewhere(site: Site) -> None:
    assert site.browser.requests
    assert {one for one in site.browser.requests if not one.startswith((site.url, "about:", "data:", "blob:"))} == set()


def test_a_denied_connection_is_explained_with_lines_conjunction_and_walk(site: Site) -> None:
    site.go("#/explain?from=shop-00%2Ffrontend%5BDeployment%5D&to=shop-00%2Fdb%5BDeployment%5D&port=5432")
    site.browser.wait("document.querySelector('.manifest .differs')")
    assert "Denied by policy, and dropped by the switches" in site.text()
    marked = site.browser.run("[...document.querySelectorAll('.manifest .differs')].map(one => one.innerText).join()")
    assert "app: api" in marked and "app: worker" in marked
    drawn = site.browser.run("document.querySelector('.conjunction svg').getAttribute('aria-label')")
    assert drawn == "who fits, from whom does not fit, port fits"
    assert "They agree" in site.text(".beside")
    walked = site.browser.run("[...document.querySelectorAll('.walk .hit b')].map(one => one.innerText)")
    assert walked[0] == "classify" and walked[-1] == "deny"


def test_a_cell_opens_its_explanation_by_mouse_and_by_keyboard(site: Site) -> None:
    site.go("#/matrix?by=namespace")
    site.go("#/matrix?by=workload&from=shop-00%2Fapi")
    site.browser.wait("[...document.querySelectorAll('[role=gridcell]')].some(one => one.textContent === '5432')")
    box = site.browser.run(
        "(() => { const {x, y, width, height} = [...document.querySelectorAll('[role=gridcell]')]"
        ".find(one => one.textContent === '5432').getBoundingClientRect(); return [x + width / 2, y + height / 2] })()"
    )
    site.browser.click(*box)
    site.browser.wait("location.hash.startsWith('#/explain')")
    site.browser.wait("document.querySelector('main').innerText.includes('Allowed by policy, and delivered')")
    site.go("#/matrix?by=workload&from=shop-00%2Fapi")
    site.browser.wait("document.querySelector('[role=rowheader]')")
    site.browser.run("document.querySelector('[role=grid]').focus()")
    site.browser.press("ArrowRight")
    said = site.browser.wait("document.getElementById('say').textContent")
    assert said.startswith("shop-00/api[Deployment] to ")
    site.browser.press("Enter")
    site.browser.wait("location.hash.startsWith('#/explain')")


def test_search_and_keys(site: Site) -> None:
    site.go("#/")
    site.browser.run("document.activeElement.blur()")
    site.browser.press("/", "/")
    assert site.browser.run("document.activeElement.id") == "find"
    site.browser.write("db-7d9")
    site.browser.wait("document.querySelectorAll('#found [role=option]').length > 0")
    site.browser.press("ArrowDown")
    assert site.browser.run("document.querySelector('#found [aria-selected=true]').id") == "found-0"
    site.browser.press("Enter")
    site.browser.wait(
        "location.hash.startsWith('#/pod?key=') && document.querySelector('main h1').innerText.startsWith('Pod ')"
    )


def test_a_screen_reader_is_told_what_is_there(site: Site) -> None:
    site.go("#/graph")
    site.browser.wait("document.querySelector('.workload')")
    told = site.browser.accessible()
    roles = {role for role, _ in told}
    assert {"banner", "navigation", "main", "heading", "search"} <= roles
    assert ("button", "shop-00/db[Deployment], 8 pods") in told
    unnamed = [one for one in told if one[0] in ("button", "link", "textbox", "searchbox", "combobox") and not one[1]]
    assert unnamed == []


def test_what_if_shows_the_matrix_before_and_after(site: Site) -> None:
    site.go("#/whatif?policy=shop-00%2Fdb")
    site.browser.run("document.getElementById('manifest').value = "
                     "document.getElementById('manifest').value.replace('app: worker', 'app: cache')")  # fmt: skip
    site.browser.run("document.getElementById('manifest').focus()")
    site.browser.press("Enter", modifiers=2)
    site.browser.wait("document.querySelector('.changes')")
    assert "Connections: 1 added, 1 removed, 0 changed" in site.text()
    kinds = site.browser.run(
        "[...document.querySelectorAll('.grid .added, .grid .removed')].map(one => one.className).sort()"
    )
    assert kinds == ["added", "removed"]
    text = site.browser.run("import('./export.js').then(one => one.exportText('What if'))")
    assert 'class="added">+5432<' in text and 'class="removed">\u22125432<' in text


def test_changes_arrive_by_themselves(site: Site) -> None:
    site.go("#/policies")
    cluster = site.world.cluster
    kept = {key: one for key, one in cluster.policies.items() if key.name != "frontend"}
    site.world.change(type(cluster)(cluster.namespaces, cluster.pods, cluster.nodes, kept))
    try:
        site.browser.wait("!document.querySelector('main').innerText.includes('shop-00/frontend')")
    finally:
        site.world.change(cluster)
    site.browser.wait("document.querySelector('main').innerText.includes('shop-00/frontend')")


def test_a_hidden_tab_holds_no_connection_and_catches_up(site: Site) -> None:
    hide = (
        "Object.defineProperty(document, 'hidden', {{value: {0}, configurable: true}});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    site.go("#/policies")
    site.browser.run(hide.format("true"))
    cluster = site.world.cluster
    kept = {key: one for key, one in cluster.policies.items() if key.name != "frontend"}
    site.world.change(type(cluster)(cluster.namespaces, cluster.pods, cluster.nodes, kept))
    try:
        until(lambda: all(one.key != "shop-00/frontend" for one in site.world.page.state().policies))
        assert site.browser.run("document.querySelector('main').innerText.includes('shop-00/frontend')")
        site.browser.run(hide.format("false"))
        site.browser.wait("!document.querySelector('main').innerText.includes('shop-00/frontend')")
    finally:
        site.world.change(cluster)
    site.browser.wait("document.querySelector('main').innerText.includes('shop-00/frontend')")


RULE = {
    "policy": "a-cluster-wide-policy-with-a-name", "direction": "ingress", "rule": 0, "tier": "Admin", "action": "Deny",
    "sources": [f"a-namespace-of-some-length/a-workload-{n}[Deployment]" for n in range(3)],
    "destinations": ["another-namespace-of-some-length/another-workload[StatefulSet]"], "rate": 12.5,
}  # fmt: skip


def test_a_rule_of_a_tier_is_not_cut_and_shows_its_rate(site: Site) -> None:
    site.go("#/")
    cut = site.browser.run(
        f"import('./overview.js').then(one => {{ const made = one.rulesTable([{json.dumps(RULE)}]);"
        "document.querySelector('.columns > section').append(made);"
        "const box = one => one.getBoundingClientRect(), whole = box(made);"
        "const cell = box(made.querySelector('td:last-child'));"
        "return [made.scrollWidth > made.clientWidth, cell.right > whole.right, cell.width > 0]; })"
    )
    assert cut == [False, False, True]


def test_names_of_a_matrix_fit_and_a_short_list_is_short(site: Site) -> None:
    site.go("#/matrix")
    site.browser.wait("document.querySelectorAll('.grid .tops i').length > 2")
    heads = "[...document.querySelectorAll('.grid .tops i')]"
    assert (
        site.browser.run(f"{heads}.filter(one => one.scrollHeight > one.clientHeight).map(one => one.innerText)") == []
    )
    assert "outside, IPv4" in site.browser.run(f"{heads}.map(one => one.innerText)")
    site.go("#/nodes")
    site.browser.wait("document.querySelector('.long .body .line')")
    tall = site.browser.run(
        "[document.querySelector('.long').offsetHeight, document.querySelectorAll('.long .line').length]"
    )
    assert tall[0] <= tall[1] * 30 + 4


def test_families_with_equal_reasons_are_one_answer_and_a_disagreement_is_first(site: Site) -> None:
    """The answer of the switches is made up here: the world of these tests has one family and obedient switches."""
    site.go("#/explain")
    end = {"direction": "egress", "end": "pod x/a", "allowed": True, "reason": "", "decided_by": "", "isolated_by": [],
           "steps": [], "more_steps": 0}  # fmt: skip
    walk = {"delivered": True, "agrees": True, "hits": [], "arrived": ["pod x/b"], "reason": "", "note": ""}
    four = {"source": "pod x/a", "source_address": "10.0.0.1", "destination": "pod x/b",
            "destination_address": "10.0.0.2", "protocol": "TCP", "port": 80, "allowed": True,
            "egress": end, "ingress": {**end, "direction": "ingress"},
            "switches": walk, "live": None, "promoted": None}  # fmt: skip
    six = {**four, "source_address": "fd00::1", "destination_address": "fd00::2",
           "switches": {**walk, "delivered": False, "agrees": False, "reason": "a foreign flow"}}  # fmt: skip
    answer = json.dumps({"version": 1, "allowed": True, "connections": [four, six], "notes": []})
    site.browser.run(
        "window.realFetch = window.fetch; window.fetch = (url, more) => String(url).includes('/explain?')"
        f" ? Promise.resolve(new Response({json.dumps(answer)}, {{headers: {{'Content-Type': 'application/json'}}}}))"
        " : window.realFetch(url, more)"
    )
    try:
        site.go("#/explain?from=x%2Fa&to=x%2Fb&port=80")
        site.browser.wait("document.querySelectorAll('.walk').length === 2")
        assert site.browser.run("document.querySelectorAll('article.connection').length") == 1
        text = site.text()
        wrong = text.index("do not do what policy says: fd00::1 → fd00::2")
        assert wrong < text.index("Allowed by policy") < text.index("as their flows are now: 10.0.0.1 → 10.0.0.2")
    finally:
        site.browser.run("window.fetch = window.realFetch")


def test_rates_are_live_on_a_node(site: Site) -> None:
    site.go("#/node?name=node-1")
    site.browser.wait("[...document.querySelectorAll('.stage .rate')].some(one => /[1-9].*[/]s/.test(one.textContent))")


def _denied(source: str, destination: str, workload: str = "Deployment/api") -> AuditEvent:
    return AuditEvent(
        number=0,
        time="2026-11-29T10:00:00.123Z",
        verdict="denied",
        cause="policy",
        node="node-1",
        text=f"{source} to {destination} was denied",
        direction="ingress",
        protocol="TCP",
        source=AuditEnd("pod", source, "10.0.0.2", 40000, workload),
        destination=AuditEnd("pod", destination, "10.0.0.3", 5432, "Deployment/db"),
        policies=("shop-00/db",),
    )


def test_denied_connections_arrive_and_lead_to_their_explanation(site: Site) -> None:
    pods = {one.key.split("/")[1].split("-")[0]: one.key for one in site.world.page.state().pods}
    site.go("#/audit?verdict=denied")
    site.world.audit_log.append([_denied(pods["cache"], pods["db"])])
    site.browser.wait("document.querySelector('.long .body .line')?.innerText.includes('shop-00/cache-')")
    site.browser.run("[...document.querySelectorAll('.long .body a')].find(one => one.innerText === 'explain').click()")
    site.browser.wait("document.querySelector('main').innerText.includes('Denied by policy')")
    site.go("#/graph")
    site.browser.wait("document.querySelector('.workload')")
    site.world.audit_log.append([_denied(pods["api"], pods["db"])])
    site.browser.wait("document.querySelector('.edge.denied')")


def test_an_export_is_one_file_that_nothing_runs_in(site: Site) -> None:
    site.go("#/policy?key=shop-00%2Fdb")
    text = site.browser.run("import('./export.js').then(one => one.exportText('Policy'))")
    assert "default-src 'none'; style-src 'sha256-" in text
    assert "<script" not in text and "app: worker" in text
    site.go("#/pods")
    text = site.browser.run("import('./export.js').then(one => one.exportText('Pods'))")
    assert all(one.key in text for one in site.world.page.state().pods)


def test_hostile_names_stay_text(browser: Chromium) -> None:
    world = PageWorld(page_cluster(20, HOSTILE))
    server = serve(world)
    try:
        _ready(world, 20)
        found = Site(world, server, browser)
        browser.errors.clear()
        browser.open(found.url)
        browser.wait("document.querySelector('main h1')")
        world.audit_log.append([_denied(f"shop-00/{HOSTILE}", HOSTILE, f"Deployment/{HOSTILE}")])
        pod = next(iter(world.page.state().pods)).key
        for place in (*VIEWS, f"#/pod?key={pod}".replace("/s", "%2Fs")):
            found.go(place.replace("[", "%5B"))
        found.go("#/graph")
        browser.wait("document.querySelector('.workload')")
        assert HOSTILE in browser.run("document.querySelector('.workload title').textContent")
        text = browser.run(
            "import('./export.js').then(one => one.exportText(document.querySelector('.workload title').textContent))"
        )
        assert "<img" not in text and "<script" not in text
        assert browser.run("document.querySelectorAll('main img, main script').length") == 0
        assert not [one for one in browser.errors if "dialog" in one or "Content Security" in one]
    finally:
        server.stop()
        world.stop()


def test_a_token_is_asked_for_once(browser: Chromium) -> None:
    world = PageWorld(page_cluster(20))
    server = serve(world, token=TOKEN)
    try:
        browser.open(f"http://{server.address}/ui/")
        browser.wait("document.getElementById('token')")
        browser.run("document.getElementById('token').focus()")
        browser.write(TOKEN)
        browser.press("Enter")
        browser.wait("document.querySelector('main h1')?.innerText === 'Overview'")
        assert TOKEN not in browser.run("location.href")
    finally:
        browser.run("sessionStorage.clear()")
        server.stop()
        world.stop()


@pytest.mark.slow
def test_2000_pods_stay_smooth(browser: Chromium, record_property: Callable[[str, object], None]) -> None:
    """Only what is seen is drawn. The time of each interaction is recorded, and not judged: machines differ."""
    world = PageWorld(page_cluster(2000))
    server = serve(world)
    try:
        _ready(world, 2000)
        found = Site(world, server, browser)
        browser.open(found.url)
        browser.wait("document.querySelector('main h1')")
        found.go("#/matrix?by=pod")
        browser.wait("document.querySelectorAll('[role=rowheader]').length > 20")
        scroll = browser.run(
            _timed("const one = document.querySelector('.grid'); one.scrollTop += 4000; one.scrollLeft += 3000;")
        )
        found.go("#/graph")
        browser.wait("document.querySelectorAll('.workload').length > 100")
        choose = browser.run(
            _timed("document.querySelector('.workload').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
        )
        found.go("#/pods")
        rows = browser.run(_timed("document.querySelector('.long').scrollTop += 20000"))
        assert browser.run("document.querySelectorAll('.long .line').length") < 100
        record_property("milliseconds", f"scroll {scroll:.0f}, choose {choose:.0f}, rows {rows:.0f}")
    finally:
        server.stop()
        world.stop()


def _timed(script: str) -> str:
    """Milliseconds from the script's start until the next frame but one is ready."""
    return (
        "new Promise(done => { const start = performance.now();"
        f"{script}; requestAnimationFrame(() => setTimeout(() => done(performance.now() - start))); }})"
    )
