// What the page knows of the cluster, kept up to date by the deltas of the stream. Views listen; nothing is drawn here.

import {ask, seen, stream, Refused} from './api.js';

const RETRY = 2000; // milliseconds
const MAX_RETRY = 15000;

export const store = Object.assign(new EventTarget(), {
  state: null, pods: new Map(), policies: new Map(), switches: new Map(), rates: null, connected: false, node: '',
});

const switchName = one => `${one.node} ${one.bridge} ${one.ovsdb}`;

function tell(name, detail) {
  store.dispatchEvent(new CustomEvent(name, {detail}));
}

function take(state) {
  store.state = state;
  store.pods = new Map(state.pods.map(one => [one.key, one]));
  store.policies = new Map(state.policies.map(one => [one.key, one]));
  store.switches = new Map(state.switches.map(one => [switchName(one), one]));
  tell('state');
}

function merge(map, changed, gone, name) {
  for (const key of gone) map.delete(key);
  for (const one of changed) map.set(name(one), one);
}

function apply(delta) {
  const state = store.state;
  merge(store.pods, delta.pods, delta.pods_gone, one => one.key);
  merge(store.policies, delta.policies, delta.policies_gone, one => one.key);
  merge(store.switches, delta.switches, delta.switches_gone, switchName);
  Object.assign(state, {
    serial: delta.serial, waiting_for: delta.waiting_for, pod_count: delta.pod_count,
    policy_count: delta.policy_count, problem_count: delta.problem_count,
  });
  if (delta.problems !== null) state.problems = delta.problems;
  tell('state', delta);
}

/** The node whose switch is to be counted; a new stream asks for it. */
export function look(node) {
  if (store.node === node) return;
  store.node = node;
  if (store.restart) store.restart();
}

/** Follow the controller for as long as the page is open. `needsToken` asks for a token, and comes back with one. */
export async function follow(needsToken) {
  let pause = RETRY;
  for (;;) {
    await seen();
    try {
      if (!store.state) take(await ask('state'));
      const ended = new AbortController();
      store.restart = () => ended.abort();
      setConnected(true);
      await stream('events', {after: store.state.serial, rates: '1', node: store.node}, (name, value) => {
        pause = RETRY;
        if (name === 'delta') apply(value);
        else if (name === 'reset') store.state = null;
        else if (name === 'rates') { store.rates = value; tell('rates'); }
      }, ended.signal);
      continue;
    } catch (error) {
      if (error.name === 'AbortError') continue;
      setConnected(false, error.message);
      if (error instanceof Refused && error.status === 401) await needsToken();
      else if (error instanceof Refused && error.status === 403) { tell('off', error.message); return; }
      else await new Promise(done => setTimeout(done, pause));
      pause = Math.min(MAX_RETRY, pause * 2);
      store.state = null; // a controller that was started again counts anew
    }
  }
}

function setConnected(connected, reason) {
  if (store.connected === connected && connected) return;
  store.connected = connected;
  tell('connection', reason);
}

/** What is wrong, the gravest first: [text, link]. */
export function findings() {
  const state = store.state, found = [];
  for (const text of state.waiting_for) found.push(['bad', `waiting for ${text}`, '#/']);
  for (const one of store.switches.values()) {
    const where = `${one.node || one.ovsdb} ${one.bridge}`;
    const to = one.node ? `#/node?name=${encodeURIComponent(one.node)}` : '#/nodes';
    if (!one.openflow_connected) found.push(['bad', `${where}: no OpenFlow connection${one.error ? `: ${one.error}` : ''}`, to]);
    else if (one.error) found.push(['bad', `${where}: ${one.error}`, to]);
    else if (!one.in_sync) found.push(['warn', `${where}: its flows are not realized yet`, to]);
    if (one.foreign_flows) found.push(['warn', `${where}: ${one.foreign_flows} foreign ${one.foreign_flows === 1 ? 'flow' : 'flows'}`, to]);
  }
  for (const one of store.policies.values()) {
    if (!one.realized) found.push(['bad', `policy ${one.key}: ${one.reason || 'not realized'}`, `#/policy?key=${encodeURIComponent(one.key)}`]);
  }
  for (const one of store.pods.values()) {
    if (one.reason) found.push(['warn', `pod ${one.key}: ${one.reason}`, `#/pod?key=${encodeURIComponent(one.key)}`]);
    else if (!one.installed) found.push(['warn', `pod ${one.key}: its flows are not realized yet`, `#/pod?key=${encodeURIComponent(one.key)}`]);
  }
  for (const one of state.problems) {
    found.push(['warn', [one.where, one.key, one.field, one.reason].filter(Boolean).join(': '), '#/']);
  }
  return found.sort((one, other) => (one[0] === other[0] ? 0 : one[0] === 'bad' ? -1 : 1));
}
