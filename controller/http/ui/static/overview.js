// What an operator wants to know first: is it in force, what is wrong, what is dropped now, what passes.

import {h, a, pod, node, policy, count, rate, ago, table} from './dom.js';
import {store, findings} from './store.js';
import {head, section, empty} from './view.js';

const MAX_FINDINGS = 50;

function tiles() {
  const {state} = store;
  const pods = [...store.pods.values()], installed = pods.filter(one => one.installed).length;
  const policies = [...store.policies.values()], realized = policies.filter(one => one.realized).length;
  const switches = [...store.switches.values()], synced = switches.filter(one => one.in_sync && one.openflow_connected).length;
  const isolated = pods.filter(one => one.isolated.length).length;
  const tile = (name, value, more, to) => h('a', {class: 'tile', href: to}, h('b', {}, value), h('span', {}, name), h('small', {}, more));
  return h('div', {class: 'tiles'},
    tile('pods realized', `${count(installed)} of ${count(pods.length)}`,
      state.pod_count > pods.length ? `of the ${count(state.pod_count)} there are` : `${count(isolated)} isolated`, '#/pods'),
    tile('policies realized', `${count(realized)} of ${count(policies.length)}`, `${count(state.policy_count)} in all`, '#/policies'),
    tile('switches equal to policy', `${count(synced)} of ${count(switches.length)}`,
      `${count(switches.reduce((sum, one) => sum + (one.actual_flows || 0), 0))} flows`, '#/nodes'),
    tile('problems of objects', count(state.problem_count), state.sources.map(one => one.name).join(', ') || 'sources', '#/'));
}

function wrong() {
  const found = findings();
  if (!found.length) return h('p', {class: 'banner good'}, 'Everything is realized: every switch has exactly the flows that policy asks for.');
  return h('ul', {class: 'findings'}, found.slice(0, MAX_FINDINGS).map(([kind, text, to]) =>
    h('li', {class: kind}, h('a', {href: to}, text))),
  found.length > MAX_FINDINGS && h('li', {class: 'dim'}, `and ${count(found.length - MAX_FINDINGS)} more`));
}

/** What the rates are not yet: every switch is dumped twice before there is one. */
export function counting(rates) {
  return !rates || !rates.covered ? empty(rates ? `Counting… (${rates.of} switches)` : 'Counting…') : null;
}

export function deniedTable(denied) {
  if (!denied.length) return empty('Policy drops nothing at this moment.');
  return table('Packets that policy drops now', [['Pod'], ['Direction'], ['Now', 'number'], ['Since the flow was made', 'number']],
    denied.slice(0, 20).map(one => [pod(one.pod), one.direction, rate(one.rate), count(one.packets)]));
}

export function rulesTable(rules, title = 'Rules that let packets pass now') {
  if (!rules.length) return empty('No rule counts at this moment.');
  const ends = names => (names === null ? 'anyone' : h('span', {}, names.slice(0, 3).map((name, n) => [n > 0 && h('br'), h('span', {class: 'name'}, name.replace(/\[\w+\]$/, ''))]),
    names.length > 3 && h('span', {class: 'dim'}, ` and ${names.length - 3} more`)));
  return table(title, [['Rule'], ['From'], ['To'], ['Now', 'number']],
    rules.slice(0, 20).map(one => [h('span', {class: 'name'}, policy(one.policy), ` ${one.direction}[${one.rule}]${one.action && ` ${one.tier}: ${one.action}`}`), ends(one.sources), ends(one.destinations), rate(one.rate)]));
}

function switches() {
  const rows = [...store.switches.values()].slice(0, 100).map(one => [
    node(one.node), one.bridge, h('span', {class: one.openflow_connected && one.in_sync ? 'good' : 'bad'},
      !one.openflow_connected ? 'away' : one.in_sync ? 'realized' : 'not realized'),
    count(one.actual_flows), count(one.desired_flows), count(one.foreign_flows), ago(one.commit_age)]);
  return table('Switches', [['Node'], ['Bridge'], ['State'], ['Flows', 'number'], ['Desired', 'number'], ['Foreign', 'number'], ['Last commit', 'number']], rows);
}

export function overview(_, {on}) {
  const parts = {tiles: h('div'), wrong: h('div'), denied: h('div'), rules: h('div'), switches: h('div')};
  const drawState = () => {
    parts.tiles.replaceChildren(tiles());
    parts.wrong.replaceChildren(wrong());
    parts.switches.replaceChildren(switches());
  };
  const drawRates = () => {
    const {rates} = store;
    const denies = (rates?.rules || []).filter(one => one.action === 'Deny');
    parts.denied.replaceChildren(counting(rates) || deniedTable(rates.denied), denies.length ? rulesTable(denies, 'Rules of tiers that deny packets now') : '');
    parts.rules.replaceChildren(counting(rates) || rulesTable(rates.rules.filter(one => one.action !== 'Deny')));
  };
  drawState();
  drawRates();
  on('state', drawState);
  on('rates', drawRates);
  return h('div', {}, head('Overview', {command: 'headgate status'}), parts.tiles,
    section('What is wrong', parts.wrong),
    h('div', {class: 'columns'}, section('Denied now', parts.denied), section('Allowed now', parts.rules)),
    section('Switches', parts.switches), h('p', {class: 'note'}, 'Keys: / finds, g then o, g, m, e, p, l, n, a or w opens a view. ', a('whatif', {}, 'Try a policy before you apply it.')));
}
