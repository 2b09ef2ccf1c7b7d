// Flows of a switch, with their counters.

import {h, pod, count} from './dom.js';
import {ask} from './api.js';
import {empty, failed} from './view.js';
import {policyOf} from './pods.js';

export function flowRows(flows) {
  return h('div', {class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Flows'}, h('table', {class: 'flows'},
    h('caption', {class: 'unseen'}, 'Flows'),
    h('thead', {}, h('tr', {}, ['Table', 'Priority', 'Match', 'Actions', 'Packets', 'For'].map(name => h('th', {scope: 'col'}, name)))),
    h('tbody', {}, flows.map(one => h('tr', {class: one.kind === 'foreign' ? 'foreign' : one.packets ? 'counts' : ''},
      h('td', {}, one.table_name), h('td', {class: 'number'}, one.priority), h('td', {}, h('code', {}, one.match || 'any')),
      h('td', {}, h('code', {}, one.actions || 'drop')), h('td', {class: 'number'}, count(one.packets)),
      h('td', {}, one.rules.length ? one.rules.slice(0, 3).map(text => [policyOf(text), h('br')]) : one.pods.length ? pod(one.pods[0]) : one.policies.join(', ') || one.note || one.kind))))));
}

/** The flows of a node in a table, or that have a text. */
export async function flowsTable(node, {table = '', text = '', signal} = {}) {
  if (!node) return empty('It is on no node.');
  try {
    const found = await ask('flows', {node, table, text}, signal);
    if (!found.flows.length) return empty('There are none.');
    return h('div', {}, found.count > found.flows.length && h('p', {class: 'note'}, `the first ${count(found.flows.length)} of ${count(found.count)}`),
      found.missing.map(reason => h('p', {class: 'failed'}, reason)), flowRows(found.flows));
  } catch (error) {
    return failed(error);
  }
}
