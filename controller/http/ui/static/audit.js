// Connections as they are denied, dropped or opened, one by one; and everything that is dropped, in numbers.

import {h, put, pod, policy, count, table, shell, link, later} from './dom.js';
import {ask, seen, stream} from './api.js';
import {store} from './store.js';
import {head, section, empty, longTable, keep} from './view.js';
import {counting, deniedTable} from './overview.js';

const KEPT = 5000, FIRST = 1000, RETRY = 3000, TOTALS_EVERY = 5000;
const VERDICTS = ['', 'denied', 'dropped', 'allowed', 'would-deny', 'unreported'];
const KINDS = {denied: 'bad', dropped: 'bad', 'would-deny': 'warn', unreported: 'warn', allowed: 'good'};

/** Follow audit events until the signal. `take` gets each; `first` gets the answer to the first question. */
export async function follow(parameters, {signal, take, first}) {
  while (!signal.aborted) {
    await seen();
    try {
      const found = await ask('audit', {...parameters, limit: String(FIRST)}, signal);
      first?.(found);
      let after = found.next - 1;
      for (;;) {
        await stream('audit', {...parameters, follow: 'sse', after: String(after)}, (_, event, number) => {
          after = Number(number);
          take(event);
        }, signal);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error.name === 'AbortError') continue; // the tab was hidden
      await new Promise(done => setTimeout(done, RETRY)); // a controller that was started again counts anew
    }
  }
}

const shown = one => one.name || one.address || '?';

function end(one) {
  if (one.kind === 'pod' && one.name) return pod(one.name);
  return one.kind === 'node' && one.name ? h('a', {href: link('node', {name: one.name})}, one.name) : one.address || '?';
}

function explained(one) {
  const port = one.destination.port, protocol = one.protocol.toUpperCase();
  const text = port === null || port === undefined ? (/ICMP/.test(protocol) ? 'icmp' : '') : protocol === 'TCP' ? String(port) : `${port}/${protocol}`;
  return link('explain', {from: shown(one.source), to: shown(one.destination), port: text});
}

const known = one => shown(one.source) !== '?' && shown(one.destination) !== '?';

const COLUMNS = [
  ['Time', '8.5rem', one => h('time', {datetime: one.time, title: one.time}, one.time.slice(11, 23))],
  ['Verdict', '6.5rem', one => h('span', {class: KINDS[one.verdict] || ''}, one.verdict)],
  ['Source', 'minmax(9rem,2fr)', one => end(one.source)], ['Destination', 'minmax(9rem,2fr)', one => end(one.destination)],
  ['Port', '6.5rem', one => (one.destination.port === null ? one.protocol : `${one.destination.port}/${one.protocol}`)],
  ['Direction', '5.5rem', one => one.direction], ['Why', 'minmax(10rem,3fr)', one => h('span', {title: one.text}, one.policies.length ? one.policies.slice(0, 3).map((key, n) => [n > 0 && ', ', policy(key)]) : one.text)],
  ['Node', '7rem', one => one.node], ['', '4.5rem', one => known(one) && h('a', {href: explained(one)}, 'explain')],
];

function totals(found) {
  const rows = found.totals.slice(0, 200).map(one => [pod(one.pod), one.cause, one.detail, one.policies || (one.cause === 'policy' ? 'a rule of a ClusterNetworkPolicy' : ''), count(one.packets)]);
  return h('div', {}, rows.length ? table('Dropped since the controller started', [['Pod'], ['Cause'], ['Detail'], ['Isolated by'], ['Packets', 'number']], rows) : empty('Nothing was dropped.'),
    found.totals.length > 200 && h('p', {class: 'note'}, `the first 200 of ${count(found.totals.length)}`),
    found.foreign.length > 0 && section('Foreign flows that met packets', table('Foreign flows', [['Node'], ['Table'], ['Match'], ['Actions'], ['Packets', 'number']],
      found.foreign.map(one => [one.node, one.table, h('code', {}, one.match), h('code', {}, one.actions), count(one.packets)]))));
}

export function auditView(parameters, {signal, on}) {
  const asked = {pod: '', verdict: '', ...parameters};
  let events = [], stop = new AbortController(), paused = false, waiting = 0;
  const rows = longTable('Events, the newest first', COLUMNS, [], {onopen: one => { if (known(one)) location.hash = explained(one).slice(1); }});
  const about = h('div', {role: 'status'}), top = h('div'), denied = h('div'), dropped = h('div');
  const draw = later(() => { if (!paused) { waiting = 0; rows.set(events); } drawPause(); }, 100);
  const pause = h('button', {type: 'button', 'aria-pressed': 'false', onclick: () => { paused = !paused; pause.setAttribute('aria-pressed', String(paused)); draw(); }}, 'Pause');

  function drawPause() {
    pause.textContent = paused ? `Go on${waiting ? ` (${count(waiting)} new)` : ''}` : 'Pause';
  }

  function drawAbout(found) {
    put(about, h('p', {class: 'note'}, `${count(found.audited)} pods are audited on switches that can report.`,
      Object.entries(found.unreported).map(([cause, packets]) => ` ${count(packets)} packets were not reported one by one (${cause}).`)),
    found.problems.map(text => h('p', {class: 'failed'}, text)),
    found.audited === 0 && h('p', {class: 'banner'}, 'Nothing is audited until somebody asks for it: ', h('code', {}, 'kubectl annotate namespace NAMESPACE headgate.io/audit=denied')));
  }

  function start() {
    stop.abort();
    stop = new AbortController();
    signal.addEventListener('abort', () => stop.abort(), {once: true});
    const query = {pod: asked.pod, verdict: asked.verdict};
    top.replaceChildren(head('Audit', {command: `headgate audit --follow${asked.pod ? ` --pod ${shell(asked.pod)}` : ''}${asked.verdict ? ` --verdict ${asked.verdict}` : ''}`, more: pause}));
    follow(query, {
      signal: stop.signal,
      first: found => { events = [...found.events].reverse().slice(0, KEPT); drawAbout(found); draw(); },
      take: event => { events.unshift(event); events.length = Math.min(events.length, KEPT); waiting++; draw(); },
    });
  }

  const change = later((name, value) => {
    if (signal.aborted) return;
    asked[name] = value;
    keep({[name]: value});
    start();
  }, 250);
  const form = h('form', {class: 'filters', role: 'search', 'aria-label': 'Filter events', onsubmit: event => event.preventDefault()},
    h('label', {class: 'field'}, 'Pod', h('input', {type: 'search', name: 'pod', value: asked.pod, placeholder: 'shop/web', autocomplete: 'off', oninput: event => change('pod', event.target.value.trim())})),
    h('label', {class: 'field'}, 'Verdict', h('select', {name: 'verdict', onchange: event => change('verdict', event.target.value)}, VERDICTS.map(one => h('option', {value: one, selected: one === asked.verdict}, one || 'all')))));
  let drawnAt = -Infinity;
  const drawTotals = async () => {
    if (performance.now() - drawnAt < TOTALS_EVERY || document.hidden) return;
    drawnAt = performance.now();
    try { put(dropped, totals(await ask('drops', {limit: '0'}, signal))); } catch { /* the next time again */ }
  };
  const drawDenied = () => { denied.replaceChildren(counting(store.rates) || deniedTable(store.rates.denied)); drawTotals(); };
  drawDenied();
  on('rates', drawDenied);
  start();
  return h('div', {}, top, form, about, rows,
    h('div', {class: 'columns'}, section('Denied now, by pod', denied), section('Dropped since the controller started', h('p', {class: 'command'}, h('code', {}, 'headgate drops')), dropped)));
}
