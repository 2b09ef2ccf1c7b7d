// Why a connection is allowed or denied: policy's answer, the lines that decide, and the same packet on the switches.

import {h, a, put, pod, policy, node, count, shell, svg} from './dom.js';
import {ask} from './api.js';
import {store} from './store.js';
import {head, section, failed} from './view.js';
import {manifest, policyOf} from './rules.js';

const MAX_MANIFESTS = 4, SUBJECT = ['subject', 'direction'], PORT = ['protocol', 'port'];

/** An end as a link: `pod NS/NAME`, `node NAME` or an address. */
function end(text) {
  const [kind, name] = text.split(' ');
  return kind === 'pod' ? h('span', {}, 'pod ', pod(name)) : kind === 'node' ? h('span', {}, 'node ', node(name)) : text;
}

/** A rule as a conjunction: who, whom and port must all fit; what does not is marked. */
function conjunction(step, direction) {
  const of = (name, kinds) => step.differences.filter(one => kinds(one.kind));
  const clauses = [
    ['who', 'pods of the policy', of('who', kind => SUBJECT.includes(kind))],
    [direction === 'ingress' ? 'from whom' : 'to whom', step.peer || 'peers', of('whom', kind => !SUBJECT.includes(kind) && !PORT.includes(kind))],
    ['port', step.port || 'ports', of('port', kind => PORT.includes(kind))],
  ];
  const fits = clauses.every(([, , differences]) => !differences.length);
  const box = ([name, , differences], n) => {
    const bad = differences.length > 0, x = 4 + n * 146;
    return svg('g', {class: bad ? 'clause bad' : 'clause good', transform: `translate(${x},4)`},
      svg('rect', {width: 120, height: 34, rx: 6}), svg('text', {x: 34, y: 22}, name),
      svg('text', {x: 12, y: 23, class: 'mark'}, bad ? '✗' : '✓'), n < 2 && svg('text', {x: 128, y: 22, class: 'and'}, '∧'));
  };
  return h('figure', {class: 'conjunction'},
    svg('svg', {width: 550, height: 42, viewBox: '0 0 550 42', role: 'img', 'aria-label': clauses.map(([name, , differences]) => `${name} ${differences.length ? 'does not fit' : 'fits'}`).join(', ')},
      clauses.map(box), svg('text', {x: 434, y: 26, class: 'and'}, '='), svg('text', {x: 452, y: 26, class: fits ? 'good' : 'bad'}, fits ? step.action.toLowerCase() : 'no match')));
}

function stepCard(step, direction) {
  const fits = step.matches && step.counts;
  return h('li', {class: `step ${fits ? 'good' : 'near'}`},
    h('div', {class: 'step-head'}, h('span', {class: 'mark', 'aria-hidden': 'true'}, fits ? '✓' : '✗'),
      h('b', {}, policy(step.policy), ` ${step.rule}${step.name ? ` "${step.name}"` : ''}`),
      h('span', {class: 'dim'}, `${step.tier === 'NetworkPolicy' ? '' : `tier ${step.tier}, `}${fits ? `matches: ${step.action}` : step.counts ? 'does not match' : 'does not count here'}`),
      (step.peer || step.port) && h('span', {class: 'dim'}, [step.peer, step.port].filter(Boolean).join(', '))),
    step.note && h('p', {}, step.note),
    conjunction(step, direction),
    step.differences.length > 0 && h('ul', {class: 'differences'}, step.differences.map(one => h('li', {}, one.where && h('code', {}, one.where), ' ', one.text))));
}

const differs = (one, other) => JSON.stringify(one) !== JSON.stringify(other);

function endBlock(one) {
  return h('section', {class: `end ${one.allowed ? 'good' : 'bad'}`},
    h('h3', {}, h('span', {class: 'mark', 'aria-hidden': 'true'}, one.allowed ? '✓ ' : '✗ '), `${one.direction === 'egress' ? 'Source, egress' : 'Destination, ingress'}: `, one.allowed ? 'allowed' : 'denied'),
    h('p', {}, end(one.end)), one.reason && h('p', {}, one.reason), one.decided_by && h('p', {}, 'Decided by ', policyOf(one.decided_by)),
    one.isolated_by.length > 0 && h('p', {}, 'Isolated by ', one.isolated_by.map((key, n) => [n ? ', ' : '', policy(key)])),
    one.steps.length > 0 && h('ol', {class: 'steps'}, one.steps.map(step => stepCard(step, one.direction))),
    one.more_steps > 0 && h('p', {class: 'note'}, `and ${count(one.more_steps)} more rules`));
}

/** The rules that nearly matched, at the table where no rule did. */
function nearly(connection, hit) {
  const {egress, ingress} = connection;
  const end = {egress_default: egress, egress_refused: egress, ingress_default: ingress, ingress_refused: ingress}[hit.table_name];
  return end && !end.allowed ? end.steps.filter(step => !(step.matches && step.counts)).slice(0, 5) : [];
}

function walk(one) {
  const {switches} = one;
  if (!switches) return h('p', {class: 'empty'}, 'No switch has an end of it, or none could be asked.');
  const chips = [];
  let last = '';
  for (const hit of switches.hits) {
    if (hit.node !== last) { chips.push(h('li', {class: 'where'}, h('b', {}, hit.node || hit.bridge))); last = hit.node; }
    const rules = hit.rules, near = nearly(one, hit);
    chips.push(h('li', {class: `hit ${hit.kind ? '' : 'miss'}${rules.length ? ' rule' : ''}${hit.kind === 'foreign' ? ' foreign' : ''}`}, h('details', {},
      h('summary', {}, h('b', {}, hit.table_name), h('small', {}, hit.kind === 'foreign' ? 'foreign flow' : hit.kind ? `${count(hit.packets)} packets` : 'no match'),
        rules.slice(0, 2).map(text => h('small', {class: 'good'}, `✓ ${text}`)), near.slice(0, 2).map(step => h('small', {class: 'bad'}, `✗ nearly ${step.policy} ${step.rule}`))),
      h('div', {class: 'flow'}, hit.kind ? [h('p', {}, h('code', {}, `priority ${hit.priority} ${hit.match || 'any'}`)), h('p', {}, '→ ', h('code', {}, hit.actions || 'drop'))] : 'Nothing matched here.',
        rules.map(text => h('p', {}, 'rule ', policyOf(text))),
        near.map(step => h('p', {}, 'nearly ', policyOf(`${step.policy} ${step.rule}`), `: ${step.differences.map(difference => difference.text).slice(0, 3).join('; ')}`)), hit.pods.length > 0 && h('p', {}, 'port of ', hit.pods.map(key => [pod(key), ' '])), hit.note && h('p', {class: 'dim'}, hit.note)))));
  }
  chips.push(h('li', {class: `where ${switches.delivered ? 'good' : 'bad'}`}, h('b', {}, switches.delivered ? `arrives at ${switches.arrived.join(', ')}` : `dropped: ${switches.reason || 'no flow lets it pass'}`)));
  return h('div', {}, h('div', {class: 'beside'},
    h('p', {class: `banner ${one.allowed ? 'good' : 'bad'}`}, `Policy: ${one.allowed ? 'allowed' : 'denied'}`),
    h('p', {class: `banner ${switches.delivered ? 'good' : 'bad'}`}, `Switches: ${switches.delivered ? 'delivered' : 'dropped'}`),
    h('p', {class: `banner ${switches.agrees ? 'good' : 'bad'}`}, switches.agrees ? 'They agree' : 'They DISAGREE')),
  h('ol', {class: 'walk', 'aria-label': 'The packet\'s way through the tables'}, chips), switches.note && h('p', {class: 'note'}, switches.note));
}

/** The places in each policy that decide: what matched, or what is nearest and does not. */
function decisive(connection) {
  const found = new Map();
  for (const one of [connection.egress, connection.ingress]) {
    const matching = one.steps.filter(step => step.matches && step.counts);
    const steps = matching.length ? matching : one.steps.slice(0, 2);
    for (const step of steps) {
      const marks = found.get(step.policy) || [];
      if (step.matches && step.counts) {
        marks.push([step.rule, 'decides'], ...(step.peer ? [[`${step.rule}.${step.peer}`, 'decides']] : []));
      } else {
        for (const difference of step.differences) {
          const place = difference.kind === 'subject' ? 'podSelector' : difference.where ? `${step.rule}.${difference.where}` : step.rule;
          marks.push([place, 'differs']);
        }
      }
      found.set(step.policy, marks);
    }
    if (!one.allowed) for (const key of one.isolated_by.slice(0, 3)) found.set(key, [...(found.get(key) || []), ['policyTypes', 'isolates'], ['podSelector', 'isolates']]);
  }
  return [...found].slice(0, MAX_MANIFESTS);
}

async function manifests(connection, signal) {
  const shown = await Promise.all(decisive(connection).map(async ([key, marks]) => {
    try {
      const {manifest: lines} = await ask('policy', {key}, signal);
      // The innermost place comes first, so that it wins.
      const sorted = [...marks].sort((one, other) => other[0].length - one[0].length);
      return h('div', {class: 'manifest-card'}, h('h3', {}, policy(key)), manifest(lines, sorted));
    } catch (error) {
      return failed(error);
    }
  }));
  return shown.length ? h('div', {class: 'columns'}, shown) : h('p', {class: 'empty'}, 'No policy has a part in it.');
}

/** Neighbours that differ by their addresses alone are shown together, as in the terminal. */
function alike(connections) {
  const groups = [];
  let last;
  for (const one of connections) {
    const text = one.source === one.source_address || one.destination === one.destination_address ? one : {...one,
      source_address: '', destination_address: '', protocol: one.protocol.replace('ICMPv6', 'ICMP'), switches: null, live: null};
    const key = JSON.stringify(text);
    if (key === last) groups.at(-1).push(one);
    else groups.push([one]);
    last = key;
  }
  return groups;
}

const ways = one => `${one.source_address} → ${one.destination_address}`;
const disagrees = one => one.switches && !one.switches.agrees;

/** What the switches do with all of a group, if it is the same. */
function onSwitches(group) {
  const delivered = new Set(group.map(one => one.switches?.agrees && one.switches.delivered));
  if (delivered.size > 1 || !group[0].switches?.agrees) return '';
  return `, and ${group[0].switches.delivered ? 'delivered' : 'dropped'} by the switches`;
}

function connectionBlock(group, signal) {
  const [one] = group;
  const lines = h('div', {}, h('p', {class: 'empty'}, 'Reading the policies…'));
  manifests(one, signal).then(made => lines.replaceChildren(made)).catch(() => {});
  return h('article', {class: 'connection'},
    h('h2', {}, end(one.source), ' → ', end(one.destination), ` ${one.port === null ? '' : `${one.port}/`}${one.protocol}`),
    h('p', {class: 'dim'}, group.map(ways).join(', ')),
    h('p', {class: `banner big ${one.allowed ? 'good' : 'bad'}`}, `${one.allowed ? 'Allowed' : 'Denied'} by policy${onSwitches(group)}`),
    h('div', {class: 'columns'}, endBlock(one.egress), endBlock(one.ingress)),
    one.promoted && section('Once staged policies are promoted', h('p', {class: `banner ${one.promoted.allowed ? 'good' : 'bad'}`}, one.promoted.allowed ? 'Allowed' : 'Denied'),
      h('div', {class: 'columns'}, ['egress', 'ingress'].filter(end => differs(one.promoted[end], one[end])).map(end => endBlock(one.promoted[end]))),
      !['egress', 'ingress'].some(end => differs(one.promoted[end], one[end])) && h('p', {class: 'note'}, 'For the same reasons as now.')),
    section('The lines that decide', lines),
    group.map(same => section(`The packet on the switches, as their flows are now${group.length > 1 ? `: ${ways(same)}` : ''}`, walk(same))));
}

export async function explainView({from = '', to = '', port = '', ip = ''}, {signal}) {
  const result = h('div', {'aria-live': 'off'});
  const names = h('datalist', {id: 'ends'}, [...store.pods.keys()].slice(0, 1000).map(key => h('option', {value: key})));
  const field = (name, label, value, placeholder, list) => h('label', {class: 'field'}, label, h('input', {name, value, placeholder, list, autocomplete: 'off', required: name !== 'port'}));
  const form = h('form', {class: 'filters', onsubmit: event => {
    event.preventDefault();
    const given = new FormData(form);
    const query = new URLSearchParams([...given].filter(([, value]) => value));
    location.hash = `#/explain?${query}`;
  }}, names, field('from', 'From', from, 'shop/web, node, address', 'ends'), field('to', 'To', to, 'shop/db, service:shop/db, address', 'ends'), field('port', 'Port', port, '80, 53/UDP, icmp'),
  h('label', {class: 'field'}, 'Family', h('select', {name: 'ip'}, [['', 'both'], ['4', 'IPv4'], ['6', 'IPv6']].map(([value, text]) => h('option', {value, selected: value === ip}, text)))),
  h('button', {type: 'submit', class: 'primary'}, 'Explain'));
  const command = (near, far) => `headgate explain ${shell(near)} ${shell(far)}${port ? ` -p ${shell(port)}` : ""}${ip ? ` --ip-version ${ip}` : ""}`;
  const top = h('div');
  const drawHead = text => top.replaceChildren(head('Explain', {command: text, more: from && to && [h('button', {type: 'button', onclick: () => request()}, 'Ask again'), a('explain', {from: to, to: from, port}, 'The other way')]}));
  drawHead(from && to ? command(from, to) : 'headgate explain SRC DST -p PORT');
  function request() {
    put(result, h('p', {class: 'empty'}, 'Asking policy and switches…'));
    ask('explain', {source: from, destination: to, port, version: ip}, signal).then(found => {
      const wrong = found.connections.filter(disagrees);
      put(result, wrong.length > 0 && h('p', {class: 'banner big bad', role: 'alert'}, `The switches do not do what policy says: ${wrong.map(ways).join(', ')}`),
        found.notes.map(text => h('p', {class: 'note'}, text)), alike(found.connections).map(group => connectionBlock(group, signal)));
      // A row of the matrix stands for one of its pods, which the command can name.
      const [first] = found.connections;
      if (found.notes.some(text => text.includes(' stands for ')) && first) drawHead(command(first.source.replace(/^(pod|node) /, ''), first.destination.replace(/^(pod|node) /, '')));
      document.title = `${found.allowed ? 'Allowed' : 'Denied'}: ${from} to ${to} - Headgate`;
      result.dataset.done = 'true';
    }).catch(error => { if (error.name !== 'AbortError') result.replaceChildren(failed(error)); });
  }
  if (from && to) request();
  else {
    result.append(h('p', {class: 'empty'}, 'Name two ends and a port: pods, nodes, addresses or Services, also of pods that are gone.'));
  }
  return h('div', {}, top, form, result);
}
