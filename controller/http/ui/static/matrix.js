// Who reaches whom: a grid that draws only the cells that are seen, with filters that the controller applies.

import {h, say, later, shell, count, link} from './dom.js';
import {ask, askText} from './api.js';
import {store} from './store.js';
import {head, failed, keep} from './view.js';
import {saveText, fileName} from './export.js';

export const ROW = 24, COLUMN = 46, TOP = 150;
const WIDE = 300, NARROW = 140, EXPORTED_ROWS = 300, EXPORTED_COLUMNS = 100;

/** A matrix as the controller writes it, to look cells up in. */
export class Reach {
  constructor(values) {
    this.groups = values.groups.map(([name, kind, namespace, pods]) => ({name, kind, namespace, pods}));
    this.places = new Map(this.groups.map((one, n) => [one.name, n]));
    this.rows = this.groups.map(() => []);
    this.notes = values.notes;
    this.wanted = values.wanted ? new Set(values.wanted) : null;
    for (const [sources, destinations, ports, complete] of values.blocks) {
      for (const [first, last] of sources) for (let n = first; n <= last; n++) this.rows[n].push({destinations, ports, complete});
    }
  }

  cell(source, destination) {
    if (source === undefined || destination === undefined) return null;
    if (source === destination && this.groups[source].pods < 2) return null;
    for (const one of this.rows[source]) for (const [first, last] of one.destinations) if (first <= destination && destination <= last) return one;
    return null;
  }

  /** The numbers of the groups that a group reaches. */
  * reached(source) {
    for (const one of this.rows[source]) for (const [first, last] of one.destinations) for (let n = first; n <= last; n++) yield [n, one];
  }
}

const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';

/** A short text for ports: as they are where they are short, else a letter of the legend. */
export class Legend {
  constructor() { this.letters = new Map(); }

  short(ports) {
    if (ports === 'All Connections') return 'all';
    const text = ports.replace(/^TCP /, '');
    if (text.length <= 5) return text;
    if (!this.letters.has(ports)) {
      const n = this.letters.size;
      this.letters.set(ports, (n >= 26 ? LETTERS[Math.floor(n / 26) - 1] || '?' : '') + LETTERS[n % 26]);
    }
    return this.letters.get(ports);
  }

  draw() {
    return h('dl', {class: 'legend'}, [...this.letters].map(([ports, letter]) => h('div', {}, h('dt', {}, letter), h('dd', {}, ports))));
  }
}

/** The first port that a cell names, to ask for an explanation. */
export function somePort(ports) {
  const found = /(TCP|UDP|SCTP) (\d+)/.exec(ports || '');
  if (!found) return /All Connections/.test(ports || '') ? '80' : ports && /ICMP|other/i.test(ports) ? 'icmp' : '80';
  return found[1] === 'TCP' ? found[2] : `${found[2]}/${found[1]}`;
}

const WHOLE = {'0.0.0.0-255.255.255.255': 'outside, IPv4', '::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff': 'outside, IPv6'};

/** A name for people: all addresses of a family that no pod and no node has are `outside`. */
export function shownName(name) {
  return WHOLE[name] || name;
}

/** A name without its kind; of a long one the end, where names of one workload differ. */
function tail(name) {
  const own = shownName(name).replace(/\[\w+\]$/, '');
  return own.length > 19 ? `…${own.slice(-18)}` : own;
}

/** A span of the grid, made without the cost of attributes that nobody reads. */
function span(role, kind, text, x, y) {
  const made = document.createElement('span');
  made.setAttribute('role', role);
  made.className = kind;
  made.textContent = text;
  made.style.transform = `translate(${x}px, ${y}px)`;
  return made;
}

/** A grid of `rows` and `columns`: names, with `cell(row, column)` giving {text, kind, label}. */
export function grid(caption, rows, columns, cell, onopen) {
  const layer = h('div', {class: 'layer', role: 'rowgroup'}), tops = h('div', {class: 'tops', role: 'row', 'aria-rowindex': '1'}), sides = h('div', {class: 'sides', role: 'presentation'});
  const here = h('span', {class: 'here', id: 'cell-here', role: 'gridcell', hidden: true});
  const size = h('div', {class: 'size'}, tops, sides, layer, h('div', {class: 'heres'}, here), h('div', {class: 'corner', 'aria-hidden': 'true'}, h('span', {}, 'to'), h('span', {}, 'from')));
  const area = h('div', {class: 'grid', role: 'grid', tabindex: '0', 'aria-label': caption, 'aria-rowcount': rows.length + 1, 'aria-colcount': columns.length + 1}, size);
  const side = innerWidth > 700 ? WIDE : NARROW; // the width of the names of rows
  area.style.setProperty('--left', `${side}px`);
  size.style.width = `${side + columns.length * COLUMN}px`;
  size.style.height = `${TOP + rows.length * ROW}px`;
  let at = [0, 0], over = [-1, -1], drawn = '', heads = new Map(), names = new Map();

  /** Draw the cells that are seen. */
  function draw(force) {
    const firstRow = Math.max(0, Math.floor(area.scrollTop / ROW) - 2), firstColumn = Math.max(0, Math.floor(area.scrollLeft / COLUMN) - 1);
    const lastRow = Math.min(rows.length, firstRow + Math.ceil((area.clientHeight - TOP) / ROW) + 5);
    const lastColumn = Math.min(columns.length, firstColumn + Math.ceil((area.clientWidth - side) / COLUMN) + 4);
    const now = `${firstRow} ${lastRow} ${firstColumn} ${lastColumn}`;
    if (!force && now === drawn) return;
    drawn = now;
    heads = new Map();
    names = new Map();
    for (let column = firstColumn; column < lastColumn; column++) {
      const made = span('columnheader', '', '', side + column * COLUMN, 0);
      made.append(h('i', {}, tail(columns[column].name)));
      made.title = columns[column].name;
      made.setAttribute('aria-colindex', column + 2);
      heads.set(column, made);
    }
    const lines = [];
    for (let row = firstRow; row < lastRow; row++) {
      const name = span('rowheader', '', shownName(rows[row].name), 0, TOP + row * ROW);
      name.title = rows[row].name;
      names.set(row, name);
      const line = h('div', {role: 'row', 'aria-rowindex': row + 2});
      for (let column = firstColumn; column < lastColumn; column++) {
        const found = cell(row, column);
        if (!found) continue;
        const made = span('gridcell', found.kind, found.text, side + column * COLUMN, TOP + row * ROW);
        made.setAttribute('aria-colindex', column + 2);
        line.append(made);
      }
      lines.push(line);
    }
    tops.replaceChildren(...heads.values());
    sides.replaceChildren(...names.values());
    layer.replaceChildren(...lines);
    mark();
  }

  /** Mark the row and column of the pointer, or of the keyboard. */
  function mark() {
    const focused = document.activeElement === area && rows.length > 0 && columns.length > 0;
    const [row, column] = over[0] >= 0 ? over : focused ? at : over;
    for (const [n, one] of heads) one.classList.toggle('on', n === column);
    for (const [n, one] of names) one.classList.toggle('on', n === row);
    here.hidden = !focused;
    if (!focused) { area.removeAttribute('aria-activedescendant'); return; }
    here.style.transform = `translate(${side + at[1] * COLUMN}px, ${TOP + at[0] * ROW}px)`;
    here.setAttribute('aria-label', describe(...at));
    area.setAttribute('aria-activedescendant', 'cell-here');
  }

  function describe(row, column) {
    const found = cell(row, column);
    return `${shownName(rows[row].name)} to ${shownName(columns[column].name)}: ${found ? found.label : 'not reached'}`;
  }

  function place(event) {
    const box = area.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    if (x < side || y < TOP) return null;
    const row = Math.floor((y + area.scrollTop - TOP) / ROW), column = Math.floor((x + area.scrollLeft - side) / COLUMN);
    return row < rows.length && column < columns.length ? [row, column] : null;
  }

  function move(row, column) {
    if (!rows.length || !columns.length) return;
    at = [Math.max(0, Math.min(rows.length - 1, row)), Math.max(0, Math.min(columns.length - 1, column))];
    over = [-1, -1];
    const top = at[0] * ROW, left = at[1] * COLUMN;
    if (top < area.scrollTop) area.scrollTop = top;
    else if (top + TOP + ROW > area.scrollTop + area.clientHeight) area.scrollTop = top + TOP + ROW - area.clientHeight;
    if (left < area.scrollLeft) area.scrollLeft = left;
    else if (left + side + COLUMN > area.scrollLeft + area.clientWidth) area.scrollLeft = left + side + COLUMN - area.clientWidth;
    mark();
    say(describe(...at));
  }

  area.addEventListener('scroll', () => requestAnimationFrame(() => draw(false)), {passive: true});
  area.addEventListener('focus', mark);
  area.addEventListener('blur', mark);
  area.addEventListener('mousemove', event => {
    const now = place(event) || [-1, -1];
    if (now[0] === over[0] && now[1] === over[1]) return;
    over = now;
    area.title = now[0] < 0 ? '' : describe(...now);
    mark();
  });
  area.addEventListener('mouseleave', () => { over = [-1, -1]; mark(); });
  area.addEventListener('click', event => { const now = place(event); if (now) { at = now; onopen(...now); } });
  area.addEventListener('keydown', event => {
    const page = Math.max(1, Math.floor((area.clientHeight - TOP) / ROW) - 1);
    const steps = {ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1], PageDown: [page, 0], PageUp: [-page, 0],
      Home: [0, -Infinity], End: [0, Infinity]}[event.key];
    if (steps) { event.preventDefault(); move(at[0] + steps[0], at[1] + steps[1]); }
    else if (event.key === 'Enter' && rows.length && columns.length) onopen(...at);
  });
  area.asTable = () => {
    const shownRows = rows.slice(0, EXPORTED_ROWS), shownColumns = columns.slice(0, EXPORTED_COLUMNS);
    return h('div', {class: 'scroll'}, h('table', {class: 'matrix-table'}, h('caption', {}, rows.length > shownRows.length || columns.length > shownColumns.length ? `${caption}; a part of it` : caption),
      h('thead', {}, h('tr', {}, h('th', {scope: 'col'}, 'from \\ to'), shownColumns.map(one => h('th', {scope: 'col'}, shownName(one.name))))),
      h('tbody', {}, shownRows.map((one, row) => h('tr', {}, h('th', {scope: 'row'}, shownName(one.name)), shownColumns.map((_, column) => {
        const found = cell(row, column);
        return h('td', {class: found?.kind}, found?.text);
      }))))));
  };
  new ResizeObserver(() => draw(true)).observe(area);
  return area;
}

export function cellOf(legend, found) {
  if (!found) return null;
  const all = found.ports === 'All Connections';
  return {text: (found.complete ? '' : '~') + legend.short(found.ports), kind: `${all ? 'all' : 'ports'}${found.complete ? '' : ' some'}`,
    label: `${found.ports}${found.complete ? '' : ' (some pods or ports only)'}`};
}

const LEVELS = ['namespace', 'workload', 'pod'];

export async function matrixView(parameters, {signal}) {
  const asked = {by: 'workload', port: '', namespace: '', label: '', node: '', text: '', from: '', to: '', ...parameters};
  const area = h('div', {class: 'matrix'}), note = h('p', {class: 'note', role: 'status'}), legendArea = h('div');
  let reach = null;

  function draw() {
    const from = asked.from.toLowerCase(), to = asked.to.toLowerCase();
    const has = (text, n) => reach.groups[n].name.toLowerCase().includes(text);
    const sources = [], used = new Set();
    reach.groups.forEach((_, n) => {
      if (!has(from, n)) return;
      let some = false;
      for (const [other] of reach.reached(n)) {
        if (has(to, other) && (other !== n || reach.groups[n].pods > 1)) { some = true; used.add(other); }
      }
      if (some || (reach.wanted ? reach.wanted.has(n) : reach.groups[n].pods)) sources.push(n);
    });
    const columns = reach.groups.map((_, n) => n).filter(n => used.has(n) || (has(to, n) && (reach.wanted ? reach.wanted.has(n) : reach.groups[n].pods)));
    const legend = new Legend();
    const cell = (row, column) => cellOf(legend, reach.cell(sources[row], columns[column]));
    for (const n of sources.slice(0, 200)) for (const one of reach.rows[n]) legend.short(one.ports);
    const open = (row, column) => {
      const source = reach.groups[sources[row]], destination = reach.groups[columns[column]];
      const found = reach.cell(sources[row], columns[column]);
      location.hash = link('explain', {from: source.name, to: destination.name, port: asked.port || somePort(found?.ports)}).slice(1);
    };
    const made = grid('Who reaches whom: rows are sources, columns are destinations', sources.map(n => reach.groups[n]), columns.map(n => reach.groups[n]), cell, open);
    area.replaceChildren(made);
    legendArea.replaceChildren(legend.draw());
    note.replaceChildren(`${count(sources.length)} sources, ${count(columns.length)} destinations. `, 'A cell has the ports; ~ is some pods or ports only; an empty one is not reached. Enter or a click explains it.',
      ...reach.notes.map(text => h('br')).flatMap((br, n) => [br, reach.notes[n]]));
  }

  async function load() {
    const {by, port, namespace, label, node, text} = asked;
    area.setAttribute('aria-busy', 'true');
    try {
      const values = await ask('matrix', {by, port, namespace, label, node, text}, signal);
      reach = new Reach(values);
      draw();
    } catch (error) {
      if (error.name !== 'AbortError') area.replaceChildren(failed(error));
    } finally {
      area.removeAttribute('aria-busy');
    }
    drawHead();
  }

  const change = later((name, value, reload) => {
    if (signal.aborted) return; // the address is another view's by now
    asked[name] = value;
    keep({[name]: value});
    if (reload) load();
    else { draw(); drawHead(); }
  }, 180);
  const field = (name, text, reload, placeholder) => h('label', {class: 'field'}, text,
    h('input', {type: 'search', value: asked[name], placeholder, autocomplete: 'off', name, oninput: event => change(name, event.target.value.trim(), reload)}));
  const choice = (name, text, options) => h('label', {class: 'field'}, text, h('select', {name, onchange: event => change(name, event.target.value, true)},
    options.map(one => h('option', {value: one, selected: one === asked[name]}, one || 'any'))));
  const spaces = [...new Set([...store.pods.keys()].map(key => key.split('/')[0]))].sort();
  const nodes = [...new Set([...store.switches.values()].map(one => one.node).filter(Boolean))].sort();
  const form = h('form', {class: 'filters', role: 'search', 'aria-label': 'Filter the matrix', onsubmit: event => event.preventDefault()},
    choice('by', 'Rows are by', LEVELS), choice('namespace', 'Namespace', ['', ...spaces]), choice('node', 'Node', ['', ...nodes]),
    field('label', 'Label', true, 'app=web'), field('port', 'Port', true, '80, 53/UDP, TCP'), field('from', 'From', false, 'part of a name'), field('to', 'To', false, 'part of a name'));
  const top = h('div');

  function drawHead() {
    const command = `headgate matrix --by ${asked.by}${asked.port ? ` -p ${shell(asked.port)}` : ''}${asked.namespace ? ` -n ${shell(asked.namespace)}` : ''}`;
    const {by, port, namespace, label, node, text} = asked;
    top.replaceChildren(head('Matrix', {command, save: async title => saveText(`${fileName(title)}.html`, await askText('matrix.html', {by, port, namespace, label, node, text}), 'text/html')}));
  }

  drawHead();
  await load();
  return h('div', {class: 'tall'}, top, form, note, area, legendArea);
}
