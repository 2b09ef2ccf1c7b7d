// The list of policies, and the page of one: its manifest, its rules with counters, its pods.

import {h, a, pod, policy, node, count, table, facts, shell, link} from './dom.js';
import {ask} from './api.js';
import {store} from './store.js';
import {head, section, empty, longTable, filter, keep} from './view.js';
import {manifest, rules, stagedTable} from './rules.js';

const STAGED = {audit: 'staged', 'audit-deletion': 'deletion staged'};
const state = one => (one.mode ? h('span', {class: 'warn', title: one.reason}, STAGED[one.mode] || one.mode) : plain(one));
const plain = one => h('span', {class: one.realized ? 'good' : 'bad', title: one.reason}, one.realized ? 'realized' : 'not realized');

export function policiesView({q = ''}, {on}) {
  let text = q.toLowerCase();
  const wanted = () => [...store.policies.values()].filter(one => !text || [one.key, one.reason, one.tier, ...one.notes].some(part => part.toLowerCase().includes(text)));
  const rows = longTable('Policies', [
    ['Policy', 'minmax(16rem,3fr)', one => policy(one.key)], ['State', '7rem', state], ['Tier', '8rem', one => one.tier || 'NetworkPolicy'],
    ['Isolates for', '9rem', one => one.isolates.join(', ') || '-'], ['Pods', '5rem', one => count(one.pods)],
    ['Notes', 'minmax(10rem,4fr)', one => one.reason || one.notes.join('; ')],
  ], wanted(), {onopen: one => { location.hash = link('policy', {key: one.key}).slice(1); }});
  on('state', () => rows.set(wanted()));
  return h('div', {}, head('Policies', {command: 'headgate status --policies'}),
    filter('Filter', q, value => { text = value.trim().toLowerCase(); keep({q: value}); rows.set(wanted()); }), rows);
}

export async function policyView({key}, {signal}) {
  const {detail, manifest: lines} = await ask('policy', {key}, signal);
  const one = detail.policy;
  return h('div', {}, head(`Policy ${key}`, {command: `headgate policy ${shell(key)}`, note: detail.note,
    more: h('span', {}, a('whatif', {policy: key}, 'Change it in what if'))}),
  h('p', {class: `banner ${one.realized ? 'good' : 'bad'}`}, one.realized ? 'Realized on every switch that has its pods.' : one.reason || 'Not realized.'),
  facts([['Tier', one.tier ? `${one.tier}, priority ${one.priority}` : 'NetworkPolicy'], ['Isolates for', one.isolates.join(', ') || '-'], ['Pods', count(one.pods)], ['Staging', STAGED[one.mode] || '']]),
  stagedTable(detail.staged),
  one.notes.length > 0 && section('Without effect now', h('ul', {}, one.notes.map(text => h('li', {}, text)))),
  detail.left_out.length > 0 && section('Rules that are on no switch', h('ul', {class: 'findings'}, detail.left_out.map(text => h('li', {class: 'warn'}, text)))),
  section('As Headgate understood it', manifest(lines)),
  section(detail.policy.tier ? 'Its rules, with the packets they decided' : 'Its rules, with the packets they let pass', rules(detail.rules)),
  section('Its pods', detail.subjects.length ? table('Pods', [['Pod'], ['Node'], ['Port']], detail.subjects.slice(0, 200).map(row => [pod(row.pod), node(row.node), row.port || '-'])) : empty('It selects no pod.'),
    detail.subjects.length > 200 && h('p', {class: 'note'}, `the first 200 of ${count(one.pods)}`)),
  section('Its switches', table('Switches', [['Node'], ['Bridge'], ['In force'], ['Pods', 'number'], ['Reason']],
    detail.switches.slice(0, 200).map(row => [node(row.node), row.bridge, row.in_force ? h('span', {class: 'good'}, 'yes') : h('span', {class: 'bad'}, 'no'), count(row.pods), row.reason]))));
}
