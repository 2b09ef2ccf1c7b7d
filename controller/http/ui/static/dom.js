// Makes elements. Texts become text nodes, never markup: names in them come from whoever makes pods.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'class') element.setAttribute('class', value);
    else if (name === 'value') element.value = value;
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** An element: h('a', {href: '#/'}, 'text', other). */
export function h(name, properties, ...children) {
  return fill(document.createElement(name), properties, children);
}

/** An element of a drawing. */
export function svg(name, properties, ...children) {
  return fill(document.createElementNS(SVG, name), properties, children);
}

/** Put other children in the place of an element's own. */
export function put(element, ...children) {
  element.replaceChildren();
  return fill(element, null, children);
}

export function $(id) {
  return document.getElementById(id);
}

/** Tell a screen reader. */
export function say(text) {
  $('say').textContent = text;
}

/** A place within the page: link('pod', {key: 'shop/web'}). */
export function link(view, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters || {})) if (value) query.set(name, value);
  const text = query.toString();
  return `#/${view}${text ? `?${text}` : ''}`;
}

export function a(view, parameters, ...children) {
  return h('a', {href: link(view, parameters)}, ...children);
}

export const pod = key => a('pod', {key}, key);
export const policy = key => a('policy', {key}, key);
export const node = name => (name ? a('node', {name}, name) : '-');

const UNITS = [[1e9, 'G'], [1e6, 'M'], [1e3, 'k']];

/** A number for people: 1,234 or 12.3k. */
export function count(number) {
  if (number === null || number === undefined) return '-';
  for (const [size, unit] of UNITS) if (number >= size * 10) return `${(number / size).toFixed(1)}${unit}`;
  return Math.round(number).toLocaleString('en');
}

/** Packets a second. */
export function rate(number) {
  if (number === null || number === undefined) return '-';
  return number > 0 && number < 10 ? `${number.toFixed(1)}/s` : `${count(number)}/s`;
}

export function ago(seconds) {
  if (seconds === null || seconds === undefined) return '-';
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

/** An argument of a shell command. */
export function shell(text) {
  return /^[A-Za-z0-9_./:=,@%+-]+$/.test(text) ? text : `'${String(text).replaceAll("'", "'\\''")}'`;
}

/** A function that runs `work` once there was no call for some milliseconds. */
export function later(work, milliseconds = 150) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), milliseconds);
  };
}

/** A table of plain rows. `columns` are [heading, class]. */
export function table(caption, columns, rows) {
  return h('div', {class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption},
    h('table', {}, h('caption', {class: 'unseen'}, caption),
      h('thead', {}, h('tr', {}, columns.map(([name, kind]) => h('th', {scope: 'col', class: kind}, name)))),
      h('tbody', {}, rows.map(row => h('tr', {}, row.map((cell, n) => h('td', {class: columns[n][1]}, cell)))))));
}

/** A short fact with its name. */
export function facts(pairs) {
  return h('dl', {class: 'facts'}, pairs.filter(([, value]) => value !== undefined && value !== '')
    .map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))));
}
