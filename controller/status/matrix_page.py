"""The matrix as one HTML file: searched and filtered in the browser, and loading nothing from anywhere.

The matrix is in the file as JSON, with sets of groups as spans. The script below only filters and shows. A content
security policy lets nothing else run, for names in it come from whoever makes pods.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable
from typing import Any

from flows.reach.model import MatrixView


def matrix_page(view: MatrixView) -> str:
    """The whole page."""
    title = f"Who reaches whom, by {view.level}" + (f", on {view.port}" if view.port else "")
    policy = f"default-src 'none'; style-src '{_hash(STYLE)}'; script-src '{_hash(SCRIPT)}'"
    return PAGE.format(
        title=html.escape(title), policy=policy, style=STYLE, script=SCRIPT, data=_data(view), notes=_notes(view)
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _notes(view: MatrixView) -> str:
    return "".join(f"<p>{html.escape(one)}</p>" for one in view.notes)


def _data(view: MatrixView) -> str:
    # No text can end the element, or begin a comment in it.
    return json.dumps(matrix_values(view), separators=(",", ":")).replace("<", "\\u003c")


def matrix_values(view: MatrixView) -> dict[str, Any]:
    """A matrix in short: groups as [name, kind, namespace, pods], blocks with spans of groups."""
    return {
        "level": view.level,
        "port": view.port,
        "notes": list(view.notes),
        "groups": [[one.name, one.kind, one.namespace, one.pods] for one in view.groups],
        "blocks": [
            [_spans(one.sources), _spans(one.destinations), one.ports.text, int(one.complete)] for one in view.blocks
        ],
    }


def _spans(numbers: Iterable[int]) -> list[list[int]]:
    """Rising numbers as spans of first and last."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


STYLE = """
:root { color-scheme: light dark; --line: light-dark(#c9ced6, #444c56); --soft: light-dark(#f2f4f7, #22272e);
  --yes: light-dark(#d3efd8, #1c4428); --some: light-dark(#fdeec2, #4d3d0c); --back: light-dark(#fff, #15191e);
  --text: light-dark(#1b1f24, #e2e6ea); --link: light-dark(#0550ae, #7ab8ff); }
* { box-sizing: border-box; }
body { margin: 0; padding: 1rem 1.5rem; font: 15px/1.5 system-ui, sans-serif; background: var(--back);
  color: var(--text); }
h1 { font-size: 1.4rem; margin: 0 0 .75rem; }
form { display: flex; flex-wrap: wrap; gap: .75rem 1rem; align-items: end; margin-bottom: .75rem; }
label { display: grid; font-size: .85rem; }
label.line { display: flex; gap: .4rem; align-items: center; }
input, select, button { font: inherit; padding: .3rem .5rem; border: 1px solid var(--line); border-radius: 4px;
  background: var(--back); color: var(--text); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 1px; }
.frame { overflow: auto; max-height: 75vh; border: 1px solid var(--line); border-radius: 4px; }
table { border-collapse: separate; border-spacing: 0; font-size: .85rem; }
th, td { border-right: 1px solid var(--line); border-bottom: 1px solid var(--line); padding: .2rem .45rem;
  text-align: left; white-space: nowrap; }
thead th { position: sticky; top: 0; background: var(--soft); z-index: 1; }
tbody th { position: sticky; left: 0; background: var(--soft); font-weight: 500; }
thead th:first-child { left: 0; z-index: 2; }
thead th.column { vertical-align: bottom; writing-mode: vertical-rl; transform: rotate(180deg); max-height: 16rem;
  border-right: 0; border-left: 1px solid var(--line); }
td.yes { background: var(--yes); }
td.some { background: var(--some); }
.legend span { padding: 0 .5rem; border: 1px solid var(--line); margin-right: .75rem; }
.legend .yes { background: var(--yes); } .legend .some { background: var(--some); }
"""

SCRIPT = """
'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const groups = data.groups.map(([name, kind, namespace, pods]) => ({name, kind, namespace, pods}));
const ROWS = 100, COLUMNS = 60;
const rows = groups.map(() => []);
data.blocks.forEach(([sources, destinations, ports, complete]) => {
  for (const [first, last] of sources)
    for (let n = first; n <= last; n++) rows[n].push({destinations, ports, complete});
});
const $ = id => document.getElementById(id);
const spaces = [...new Set(groups.map(g => g.namespace).filter(Boolean))].sort();
for (const name of spaces) $('namespace').append(new Option(name, name));
let page = 0;

function cell(source, destination) {
  if (source === destination && groups[source].pods < 2) return null;
  for (const one of rows[source])
    for (const [first, last] of one.destinations)
      if (first <= destination && destination <= last) return one;
  return null;
}

function wanted(port, one) {
  return one !== null && (!port || one.ports.toLowerCase().includes(port));
}

function chosen(text, space) {
  const found = [];
  groups.forEach((g, n) => {
    if (g.name.toLowerCase().includes(text) && (!space || g.namespace === space)) found.push(n);
  });
  return found;
}

function element(name, text, properties) {
  const made = Object.assign(document.createElement(name), properties || {});
  if (text !== undefined) made.textContent = text;
  return made;
}

function draw() {
  const port = $('port').value.trim().toLowerCase(), space = $('namespace').value;
  let from = chosen($('from').value.trim().toLowerCase(), space);
  let to = chosen($('to').value.trim().toLowerCase(), '');
  if ($('connected').checked) {
    from = from.filter(a => to.some(b => wanted(port, cell(a, b))));
    const shown = from.slice(page * ROWS, page * ROWS + ROWS);
    to = to.filter(b => shown.some(a => wanted(port, cell(a, b))));
  }
  const pages = Math.max(1, Math.ceil(from.length / ROWS));
  page = Math.min(page, pages - 1);
  const table = $('matrix'), head = element('thead'), body = element('tbody'), top = element('tr');
  const columns = to.slice(0, COLUMNS);
  top.append(element('th', 'from \\\\ to', {scope: 'col'}));
  for (const b of columns) top.append(element('th', groups[b].name, {scope: 'col', className: 'column'}));
  head.append(top);
  for (const a of from.slice(page * ROWS, page * ROWS + ROWS)) {
    const line = element('tr');
    line.append(element('th', groups[a].name, {scope: 'row', title: `${groups[a].pods} pods`}));
    for (const b of columns) {
      const one = cell(a, b);
      if (!wanted(port, one)) line.append(element('td', a === b && groups[a].pods === 1 ? 'itself' : ''));
      else line.append(element('td', one.ports + (one.complete ? '' : ' (some)'), {
        className: one.complete ? 'yes' : 'some', title: `${groups[a].name} to ${groups[b].name}: ${one.ports}`}));
    }
    body.append(line);
  }
  table.replaceChildren(table.caption, head, body);
  $('before').disabled = page === 0;
  $('next').disabled = page >= pages - 1;
  const more = to.length > columns.length ? `, the first ${columns.length} columns: search to see others` : '';
  $('summary').textContent = `${from.length} sources, ${to.length} destinations; page ${page + 1} of ${pages}${more}`;
}

let timer = 0;
$('filters').addEventListener('input', () => { page = 0; clearTimeout(timer); timer = setTimeout(draw, 80); });
$('filters').addEventListener('submit', event => event.preventDefault());
$('before').addEventListener('click', () => { page--; draw(); });
$('next').addEventListener('click', () => { page++; draw(); });
draw();
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{notes}
<form id="filters" role="search" aria-label="Filter the matrix">
<label>From <input id="from" type="search" autocomplete="off"></label>
<label>To <input id="to" type="search" autocomplete="off"></label>
<label>Ports contain <input id="port" type="search" autocomplete="off" placeholder="TCP 80"></label>
<label>Namespace of the source <select id="namespace"><option value="">any</option></select></label>
<label class="line"><input id="connected" type="checkbox" checked> only rows and columns with a connection</label>
<button id="before" type="button">Previous rows</button>
<button id="next" type="button">Next rows</button>
</form>
<p id="summary" role="status" aria-live="polite"></p>
<p class="legend"><span class="yes">ports</span>every pod reaches every pod on these
<span class="some">(some)</span>some pods, or some of the ports, only</p>
<div class="frame" role="region" aria-label="Matrix" tabindex="0">
<table id="matrix"><caption hidden>Rows are sources, columns are destinations; a cell has the ports.</caption></table>
</div>
<noscript><p>This page needs JavaScript, which is in the file itself; nothing is loaded.</p></noscript>
</main>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""
