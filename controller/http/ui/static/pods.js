// The list of pods, and the page of one.

import {h, a, put, pod, policy, node, count, rate, ago, table, facts, shell, link} from './dom.js';
import {ask} from './api.js';
import {store, look} from './store.js';
import {head, section, empty, longTable, filter, keep} from './view.js';
import {flowsTable} from './flows.js';
import {rules, stagedTable} from './rules.js';

const state = one => (one.reason ? h('span', {class: 'bad', title: one.reason}, 'problem') :
  h('span', {class: one.installed ? 'good' : 'warn'}, one.installed ? 'realized' : 'not realized'));

export const POD_COLUMNS = [
  ['Pod', 'minmax(16rem,3fr)', one => pod(one.key)], ['State', '7rem', state],
  ['Isolated for', '9rem', one => one.isolated.join(', ') || '-'], ['Node', 'minmax(7rem,1fr)', one => node(one.node)],
  ['Addresses', 'minmax(9rem,2fr)', one => one.addresses.join(', ')], ['Port', '8rem', one => one.port || '-'],
];

function fits(one, text) {
  return !text || [one.key, one.node, one.port, ...one.addresses, one.reason].some(part => part.toLowerCase().includes(text));
}

export function podsView({q = ''}, {on}) {
  let text = q.toLowerCase();
  const wanted = () => [...store.pods.values()].filter(one => fits(one, text)).sort((one, other) => (one.key < other.key ? -1 : 1));
  const rows = longTable('Pods', POD_COLUMNS, wanted(), {onopen: one => { location.hash = link('pod', {key: one.key}).slice(1); }});
  const note = h('p', {class: 'note', role: 'status'});
  const draw = () => {
    const found = wanted();
    rows.set(found);
    note.textContent = `${count(found.length)} of ${count(store.state.pod_count)} pods` +
      (store.state.pod_count > store.pods.size ? `; the first ${count(store.pods.size)} are listed, search finds the others` : '');
  };
  draw();
  on('state', draw);
  return h('div', {}, head('Pods', {command: 'headgate status --pods'}),
    filter('Filter', q, value => { text = value.trim().toLowerCase(); keep({q: value}); draw(); }), note, rows);
}

export async function podView({key}, {signal, on}) {
  const found = await ask('pod', {key}, signal);
  const {detail} = found, one = detail.pod;
  look(one.node);
  const live = h('div'), facts1 = h('div');
  const denied = h('div', {class: 'live'});
  const drawRates = () => {
    const mine = (store.rates?.denied || []).filter(entry => entry.pod === key);
    denied.replaceChildren(...(mine.length ? mine.map(entry => h('p', {class: 'banner bad'},
      `Now dropped by policy, ${entry.direction}: ${rate(entry.rate)}`)) : []));
  };
  const drawFacts = () => {
    const now = store.pods.get(key) || one;
    const ok = detail.in_force || now.installed;
    put(facts1, 
      detail.host_network || detail.finished ? h('p', {class: 'banner'}, 'No policy applies to it.') :
        h('p', {class: `banner ${ok && !now.reason ? 'good' : 'bad'}`}, ok && !now.reason ? 'Realized: its switch has every flow that policy asks for.' : now.reason || 'Not realized.'),
      facts([['Node', node(now.node)], ['Port', now.port ? `${now.port} on ${detail.bridge}, OpenFlow port ${now.ofport}` : '-'],
        ['Addresses', now.addresses.join(', ') || '-'], ['MAC', now.mac || '-'], ['Realized', now.programmed_after === null ? '' : `${now.programmed_after.toPrecision(3)} s after its port appeared`], ['Workload', found.workload || '-'],
        ['Labels', h('span', {class: 'labels'}, Object.entries(detail.labels).map(([name, value]) => h('code', {}, `${name}=${value}`)))],
        ['Named ports', detail.container_ports.join(', ') || '-'], ['Dropped by limits', count(now.limited)], ['Invalid', count(now.invalid)]]));
  };
  drawFacts();
  drawRates();
  on('state', drawFacts);
  on('rates', drawRates);
  flowsTable(one.node, {text: key, signal, on}).then(made => live.replaceChildren(made));
  const name = key.split('/')[1];
  return h('div', {}, head(`Pod ${key}`, {command: `headgate pod ${shell(key)}`, note: detail.note,
    more: h('span', {}, a('explain', {from: key}, 'What may it reach?'), ' ', a('explain', {to: key}, 'Who may reach it?'))}),
  denied, facts1,
  section('What isolates it', isolation(detail.isolation)), stagedTable(detail.staged),
  section('Rules that count for it', rules(detail.rules)),
  section('History of its realization', history(found.history)),
  section(`Flows of ${name} on ${one.node || 'its node'}`, live));
}

function isolation(entries) {
  return table('Isolation', [['Direction'], ['Isolated by'], ['Packets dropped', 'number']], entries.map(one => [one.direction,
    one.policies.length ? h('span', {}, one.policies.map((key, n) => [n ? ', ' : '', policy(key)])) : 'nothing: everything may pass', count(one.denied_packets)]));
}

function history(entries) {
  if (!entries.length) return empty('Nothing changed since the controller started.');
  return h('ol', {class: 'history'}, [...entries].reverse().map(one => h('li', {class: one.realized ? 'good' : 'warn'},
    h('time', {}, `${ago(one.ago)} ago`), h('span', {}, one.text))));
}
