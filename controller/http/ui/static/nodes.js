// The list of nodes, and the page of one: its pipeline with packets a second.

import {h, node, count, rate, ago, table, shell, link} from './dom.js';
import {ask} from './api.js';
import {store, look} from './store.js';
import {head, section, longTable, keep} from './view.js';
import {POD_COLUMNS} from './pods.js';
import {flowsTable} from './flows.js';

export function nodesView(_, {on}) {
  const wanted = () => [...store.switches.values()];
  const rows = longTable('Nodes', [
    ['Node', 'minmax(10rem,2fr)', one => (one.node ? node(one.node) : '(not known)')], ['Bridge', '8rem', one => one.bridge],
    ['State', '8rem', one => h('span', {class: one.openflow_connected && one.in_sync ? 'good' : 'bad'}, !one.openflow_connected ? 'away' : one.in_sync ? 'realized' : 'not realized')],
    ['Flows', '6rem', one => count(one.actual_flows)], ['Foreign', '5rem', one => count(one.foreign_flows)],
    ['Datapath', '10rem', one => `${one.datapath_type || '-'} ${one.ovs_version}`], ['Last commit', '7rem', one => ago(one.commit_age)],
    ['Error', 'minmax(8rem,3fr)', one => one.error],
  ], wanted(), {onopen: one => { location.hash = link('node', {name: one.node}).slice(1); }});
  on('state', () => rows.set(wanted()));
  return h('div', {}, head('Nodes', {command: 'headgate status --switches'}), rows);
}

/** The pipeline as a strip of named stages. `hits` marks those that a packet passed. */
export function strip(stages, {chosen, onchoose, hits} = {}) {
  const buttons = new Map();
  const list = h('ol', {class: 'strip'}, stages.map(one => {
    const made = h(onchoose ? 'button' : 'div', {class: 'stage', type: onchoose && 'button', 'data-stage': one.name, 'aria-pressed': onchoose && String(one.name === chosen),
      title: `${one.does} Without a match: ${one.miss}.`, onclick: onchoose && (() => onchoose(one))},
    h('b', {}, one.name), h('span', {class: 'rate'}, ' '), h('span', {class: 'meter', 'aria-hidden': 'true'}), h('small', {}, `${count(one.flows)} flows`));
    if (hits?.has(one.name)) made.classList.add('hit');
    buttons.set(one.name, made);
    return h('li', {class: `group-${group(one.name)}`}, made);
  }));
  list.buttons = buttons;
  return list;
}

function group(name) {
  if (/egress|ingress|same_port/.test(name)) return 'policy';
  if (/deny|invalid|refuse/.test(name)) return 'drop';
  if (/service|endpoint|affinity|hairpin|direct$/.test(name)) return 'service';
  return 'path';
}

function drawRates(list, rates) {
  const most = Math.max(1, ...Object.values(rates).map(one => one.rate || 0));
  for (const [name, button] of list.buttons) {
    const one = rates[name];
    button.querySelector('.rate').textContent = one ? (one.rate === null ? `${count(one.packets)} in all` : rate(one.rate)) : '';
    button.querySelector('.meter').style.setProperty('--part', one?.rate ? Math.max(0.04, Math.log1p(one.rate) / Math.log1p(most)) : 0);
    button.classList.toggle('busy', Boolean(one?.rate));
  }
}

export async function nodeView({name, table: wanted = ''}, {signal, on}) {
  const found = await ask('node', {name}, signal);
  look(name);
  const used = found.stages.filter(one => one.flows > 0), rest = found.stages.filter(one => !one.flows);
  const flows = h('div'), about = h('div'), top = h('div');
  const drawHead = table => top.replaceChildren(head(`Node ${name}`, {command: `headgate flows --node ${shell(name)} ${table ? `--table ${shell(table)}` : '--stages'}`}));
  drawHead(wanted);
  const choose = async one => {
    keep({table: one.name});
    drawHead(one.name);
    for (const button of list.buttons.values()) button.setAttribute('aria-pressed', String(button.dataset.stage === one.name));
    for (const button of list.buttons.values()) button.classList.toggle('next', one.leads_to.includes(button.dataset.stage));
    about.replaceChildren(h('h3', {}, `Table ${one.number}, ${one.name}`), h('p', {}, one.does),
      h('p', {class: 'dim'}, `Without a match: ${one.miss}. Leads to: ${one.leads_to.join(', ') || 'nowhere'}.`));
    flows.replaceChildren(await flowsTable(name, {table: one.name, signal, on}));
  };
  const list = strip(used, {chosen: wanted, onchoose: choose});
  const age = h('p', {class: 'note', role: 'status'});
  const counts = () => {
    const mine = store.rates?.nodes.find(one => one.node === name);
    if (!mine) { age.textContent = 'Counting…'; return; }
    drawRates(list, mine.tables);
    age.textContent = `packets that matched a flow in each table, a second; counted ${ago(mine.age)} ago${store.rates.note ? `; ${store.rates.note}` : ''}`;
  };
  counts();
  on('rates', counts);
  const first = used.find(one => one.name === wanted);
  if (first) choose(first);
  return h('div', {}, top,
    table('Switches', [['Bridge'], ['Datapath id'], ['State'], ['Flows', 'number'], ['Desired', 'number'], ['Foreign', 'number'], ['Datapath'], ['Uplink'], ['Last commit', 'number']],
      found.switches.map(one => [one.bridge, h('code', {class: 'whole'}, one.dpid), h('span', {class: one.in_sync && one.openflow_connected ? 'good' : 'bad'}, !one.openflow_connected ? 'away' : one.in_sync ? 'realized' : 'not realized'),
        count(one.actual_flows), count(one.desired_flows), count(one.foreign_flows), `${one.datapath_type || '-'} ${one.ovs_version}`, one.uplink || '-', ago(one.commit_age)])),
    found.switches.filter(one => one.error).map(one => h('p', {class: 'banner bad'}, `${one.bridge}: ${one.error}`)),
    section('Pipeline', age, list, rest.length > 0 && h('p', {class: 'note'}, `Without flows here: ${rest.map(one => one.name).join(', ')}.`), about, flows),
    section(`Pods (${count(found.pod_count)})`, longTable('Pods of this node', POD_COLUMNS, found.pods, {onopen: one => { location.hash = link('pod', {key: one.key}).slice(1); }})));
}
