// What pages of pods and policies both show of a policy: its rules, its manifest, what is staged.

import {h, pod, policy, count, table} from './dom.js';
import {section, empty} from './view.js';

/** `ns/name ingress[0]` with a link to the policy. */
export function policyOf(text) {
  const [key, ...rest] = text.split(' ');
  return h('span', {}, policy(key), ` ${rest.join(' ')}`);
}

/** Rules in a table, with their peers, ports and packets. */
export function rules(entries) {
  if (!entries.length) return empty('No rule allows anything.');
  const peers = one => (one.peers === null ? 'anyone' : h('details', {}, h('summary', {}, `${count(one.peer_count)} addresses`),
    h('ul', {}, one.peers.slice(0, 100).map(peer => h('li', {}, h('code', {}, peer.address), ' ', peer.pods.map(key => [pod(key), ' ']))))));
  return table('Rules', [['Rule'], ['Direction'], ['Peers'], ['Ports'], ['Packets', 'number']], entries.map(one => [
    h('span', {}, one.rules.map((text, n) => [n ? h('br') : '', policyOf(text)])), one.direction, peers(one),
    one.ports === null ? 'every port' : one.ports.join(', '), count(one.packets)]));
}

/** A manifest with line numbers. `marks` are [place, kind]: lines at such a place, or below it, are marked. */
export function manifest(view, marks = []) {
  const kind = place => (marks.find(([wanted]) => place === wanted || (place.startsWith(wanted) && '.['.includes(place[wanted.length]))) || [])[1];
  return h('ol', {class: 'manifest', tabindex: '0', role: 'region', 'aria-label': 'Manifest'}, view.lines.map((line, n) => {
    const marked = kind(view.places[n]);
    return h('li', {class: marked && `marked ${marked}`}, h('code', {}, line), marked && h('span', {class: 'unseen'}, ` (${marked})`));
  }));
}

/** What the promotion of staged policies would change; nothing where none is staged. */
export function stagedTable(entries) {
  return entries.length > 0 && section('Once staged policies are promoted', table('Staged', [['Direction'], ['Policies'], ['Would be denied', 'number'], ['Would be allowed', 'number']],
    entries.map(one => [one.direction, h('span', {}, one.policies.map((key, n) => [n > 0 && ', ', policy(key)])), count(one.would_deny), count(one.would_allow)])));
}
