// What every view has: a heading with a link, the terminal's command and an export; and tables of many rows.

import {h, say, later, table} from './dom.js';
import {exportView} from './export.js';

/** The head of a view. `command` is what gives the same answer in a terminal; `more` are controls. */
export function head(title, {command, note, more, save} = {}) {
  const copied = (text, what) => async event => {
    const button = event.currentTarget, name = button.textContent;
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = 'Copied';
      say(`${what} copied`);
    } catch {
      button.textContent = 'Not copied';
    }
    setTimeout(() => { button.textContent = name; }, 1200);
  };
  return h('div', {class: 'head'},
    h('h1', {tabindex: '-1'}, title),
    h('div', {class: 'tools'}, more,
      h('button', {type: 'button', onclick: copied(() => location.href, 'Link')}, 'Copy link'),
      h('button', {type: 'button', onclick: () => (save || exportView)(title)}, 'Export')),
    note && h('p', {class: 'note'}, note),
    command && h('div', {class: 'command'}, h('span', {class: 'unseen'}, 'In the terminal: '),
      h('code', {'data-command': true}, command),
      h('button', {type: 'button', class: 'plain', 'aria-label': 'Copy the command', onclick: copied(() => command, 'Command')}, 'Copy')));
}

/** A section with a heading. */
export function section(title, ...children) {
  return h('section', {}, h('h2', {}, title), ...children);
}

export function empty(text) {
  return h('p', {class: 'empty'}, text);
}

export function failed(error) {
  return h('p', {class: 'failed', role: 'alert'}, error.message || String(error));
}

const ROW = 30, MAX_EXPORTED = 5000;

/** A table that draws the rows which are seen. `columns` are [heading, width, cell(row)]; `set(rows)` shows others. */
export function longTable(caption, columns, rows, {onopen} = {}) {
  let shown = rows, first = -1, active = 0;
  const widths = columns.map(([, width]) => width).join(' ');
  const grid = line => { line.style.gridTemplateColumns = widths; return line; };
  const top = grid(h('div', {role: 'row', class: 'line top', 'aria-rowindex': '1'},
    columns.map(([name]) => h('span', {role: 'columnheader'}, name))));
  const body = h('div', {role: 'rowgroup', class: 'body'});
  const area = h('div', {class: 'long', role: 'table', 'aria-label': caption, tabindex: '0'},
    h('div', {role: 'rowgroup', class: 'sticky'}, top), body);

  function draw(force) {
    const start = Math.max(0, Math.floor(area.scrollTop / ROW) - 8);
    if (!force && start === first) return;
    first = start;
    const end = Math.min(shown.length, start + Math.ceil((area.clientHeight || 600) / ROW) + 18);
    const lines = [];
    for (let n = start; n < end; n++) {
      const line = grid(h('div', {role: 'row', class: n === active && document.activeElement === area ? 'line active' : 'line',
        'aria-rowindex': n + 2}, columns.map(([, , cell]) => h('span', {role: 'cell'}, cell(shown[n])))));
      line.style.top = `${n * ROW}px`;
      lines.push(line);
    }
    body.replaceChildren(...lines);
  }

  function set(more) {
    shown = more;
    active = Math.min(active, Math.max(0, more.length - 1));
    body.style.height = `${more.length * ROW}px`;
    area.style.height = `min(66vh, 760px, ${(more.length + 1) * ROW + 2}px)`;
    area.setAttribute('aria-rowcount', more.length + 1);
    draw(true);
  }

  function move(to) {
    active = Math.max(0, Math.min(shown.length - 1, to));
    const at = active * ROW;
    if (at < area.scrollTop) area.scrollTop = at;
    else if (at + 2 * ROW > area.scrollTop + area.clientHeight) area.scrollTop = at + 2 * ROW - area.clientHeight;
    draw(true);
    const line = body.querySelector('.active');
    if (line) say(line.textContent);
  }

  area.addEventListener('scroll', () => requestAnimationFrame(() => draw(false)), {passive: true});
  area.addEventListener('focus', () => draw(true));
  area.addEventListener('blur', () => draw(true));
  area.addEventListener('keydown', event => {
    const page = Math.max(1, Math.floor(area.clientHeight / ROW) - 2);
    const steps = {ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity};
    if (event.target !== area) return;
    if (event.key in steps) { event.preventDefault(); move(steps[event.key] === Infinity ? shown.length : active + steps[event.key]); }
    else if (event.key === 'Enter' && onopen && shown.length) onopen(shown[active]);
  });
  new ResizeObserver(() => draw(true)).observe(area);
  set(rows);
  area.set = set;
  area.asTable = () => table(caption, columns.map(([name]) => [name]), shown.slice(0, MAX_EXPORTED).map(row => columns.map(([, , cell]) => cell(row))));
  return area;
}

/** A search field that calls `changed` with its text. */
export function filter(label, value, changed) {
  return h('label', {class: 'field'}, label,
    h('input', {type: 'search', value: value || '', autocomplete: 'off', oninput: later(event => { if (event.target.isConnected) changed(event.target.value); })}));
}

/** Change the parameters of the address without a new view. */
export function keep(parameters) {
  const [path, text] = location.hash.split('?');
  const query = new URLSearchParams(text || '');
  for (const [name, value] of Object.entries(parameters)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  const whole = query.toString();
  history.replaceState(null, '', `${path}${whole ? `?${whole}` : ''}`);
}
