// Flows of a switch, with their counters.

import {h, put, pod, count, rate} from './dom.js';
import {ask} from './api.js';
import {empty, failed} from './view.js';
import {policyOf} from './rules.js';

const EVERY = 5000; // milliseconds between two readings of counters
const nameOf = one => `${one.bridge} ${one.table} ${one.priority} ${one.match}`;

/** Flows in a table; `grown` gives the packets a second of one. */
export function flowRows(flows, grown = () => 0) {
  return h('div', {class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Flows'}, h('table', {class: 'flows'},
    h('caption', {class: 'unseen'}, 'Flows'),
    h('thead', {}, h('tr', {}, ['Table', 'Priority', 'Match', 'Actions', 'Packets', 'For'].map(name => h('th', {scope: 'col'}, name)))),
    h('tbody', {}, flows.map(one => h('tr', {class: one.kind === 'foreign' ? 'foreign' : grown(one) > 0 ? 'counts now' : one.packets ? 'counts' : ''},
      h('td', {}, one.table_name), h('td', {class: 'number'}, one.priority), h('td', {}, h('code', {}, one.match || 'any')),
      h('td', {}, h('code', {}, one.actions || 'drop')), h('td', {class: 'number'}, count(one.packets), grown(one) > 0 && h('small', {class: 'growth'}, `+${rate(grown(one))}`)),
      h('td', {}, one.rules.length ? one.rules.slice(0, 3).map(text => [policyOf(text), h('br')]) : one.pods.length ? pod(one.pods[0]) : one.policies.join(', ') || one.note || one.kind))))));
}

/** The flows of a node in a table, or that have a text. Their counters go on while the table is on the page. */
export async function flowsTable(node, {table = '', text = '', signal, on} = {}) {
  if (!node) return empty('It is on no node.');
  const area = h('div');
  let before = null, at = 0, busy = false;

  async function draw() {
    const found = await ask('flows', {node, table, text}, signal);
    const now = performance.now(), last = before, passed = (now - at) / 1000;
    before = new Map(found.flows.map(one => [nameOf(one), one.packets]));
    at = now;
    const grown = one => (last === null || !last.has(nameOf(one)) ? 0 : Math.max(0, one.packets - last.get(nameOf(one))) / passed);
    const place = area.querySelector('.scroll')?.scrollTop || 0;
    put(area, found.count > found.flows.length && h('p', {class: 'note'}, `the first ${count(found.flows.length)} of ${count(found.count)}`),
      found.missing.map(reason => h('p', {class: 'failed'}, reason)), found.flows.length ? flowRows(found.flows, grown) : empty('There are none.'));
    const drawn = area.querySelector('.scroll');
    if (drawn) drawn.scrollTop = place;
  }

  try {
    await draw();
  } catch (error) {
    return failed(error);
  }
  on?.('rates', async () => {
    if (busy || document.hidden || !area.isConnected || performance.now() - at < EVERY || area.contains(document.activeElement)) return;
    busy = true;
    try { await draw(); } catch { /* the next time again */ } finally { busy = false; }
  });
  return area;
}
