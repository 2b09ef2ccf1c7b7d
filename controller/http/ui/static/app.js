// Starts the page: views by their address, search, theme, keys, and what the header tells.

import {h, $, say, link, later, count} from './dom.js';
import {ask, setToken, takeToken, Refused} from './api.js';
import {store, follow, findings} from './store.js';
import {failed} from './view.js';
import {overview} from './overview.js';
import {podsView, podView} from './pods.js';
import {policiesView, policyView} from './policies.js';
import {nodesView, nodeView} from './nodes.js';
import {graphView} from './graph.js';
import {matrixView} from './matrix.js';
import {explainView} from './explain.js';
import {whatIfView} from './whatif.js';
import {auditView} from './audit.js';

const VIEWS = {
  '': ['Overview', overview], graph: ['Graph', graphView], matrix: ['Matrix', matrixView],
  explain: ['Explain', explainView], pods: ['Pods', podsView], policies: ['Policies', policiesView],
  nodes: ['Nodes', nodesView], audit: ['Audit', auditView], whatif: ['What if', whatIfView],
  pod: ['Pod', podView, 'pods'], policy: ['Policy', policyView, 'policies'], node: ['Node', nodeView, 'nodes'],
};

let leave = new AbortController();

function place() {
  const [path, text] = location.hash.replace(/^#\/?/, '').split('?');
  return [path in VIEWS ? path : '', Object.fromEntries(new URLSearchParams(text || ''))];
}

/** Show the view of the address. Its listeners end with it. */
async function show(focus) {
  const [name, parameters] = place();
  leave.abort();
  leave = new AbortController();
  const {signal} = leave;
  const [title, make, under] = VIEWS[name];
  for (const one of $('nav').querySelectorAll('a')) {
    if (one.dataset.view === (under || name)) one.setAttribute('aria-current', 'page');
    else one.removeAttribute('aria-current');
  }
  const on = (event, work) => store.addEventListener(event, work, {signal});
  const main = $('main');
  main.setAttribute('aria-busy', 'true');
  try {
    const made = await make(parameters, {signal, on});
    if (signal.aborted) return;
    main.replaceChildren(made);
  } catch (error) {
    if (signal.aborted || error.name === 'AbortError') return;
    main.replaceChildren(h('h1', {tabindex: '-1'}, title), failed(error));
  } finally {
    if (!signal.aborted) main.removeAttribute('aria-busy');
  }
  const heading = main.querySelector('h1');
  document.title = `${heading ? heading.textContent : title} - Headgate`;
  if (focus && heading) heading.focus({preventScroll: false});
  document.body.dataset.shown = location.hash;
}

function drawNav() {
  $('nav').replaceChildren(h('ul', {}, Object.entries(VIEWS).filter(([, view]) => view.length < 3).map(([name, [title]]) =>
    h('li', {}, h('a', {href: `#/${name}`, 'data-view': name}, title)))));
}

function drawHealth() {
  if (!store.state) return;
  const found = findings(), bad = found.filter(([kind]) => kind === 'bad').length;
  const text = !found.length ? 'all realized' : bad ? `${count(bad)} failed` : `${count(found.length)} to look at`;
  const health = $('health');
  if (health.textContent !== text) health.textContent = text;
  health.className = `pill ${!found.length ? 'good' : bad ? 'bad' : 'warn'}`;
}

function drawLink(event) {
  const pill = $('link');
  pill.textContent = store.connected ? 'live' : `not connected${event.detail ? `: ${event.detail}` : ''}`;
  pill.className = store.connected ? 'pill quiet' : 'pill bad';
}

// -- search ----------------------------------------------------------------------------------------------------------

const TARGETS = {pod: name => link('pod', {key: name}), policy: name => link('policy', {key: name}),
  node: name => link('node', {name}), service: name => link('explain', {to: `service:${name}`})};
let chosen = -1;

function setUpSearch() {
  const field = $('find'), list = $('found');
  const close = () => {
    list.hidden = true;
    field.setAttribute('aria-expanded', 'false');
    field.removeAttribute('aria-activedescendant');
    chosen = -1;
  };
  const choose = number => {
    const options = [...list.children];
    chosen = Math.max(-1, Math.min(options.length - 1, number));
    options.forEach((one, n) => one.setAttribute('aria-selected', n === chosen));
    if (chosen < 0) return;
    field.setAttribute('aria-activedescendant', options[chosen].id);
    options[chosen].scrollIntoView({block: 'nearest'});
  };
  const open = one => { location.hash = one.dataset.to.slice(1); field.value = ''; close(); };
  const search = later(async () => {
    const text = field.value.trim();
    if (!text) { close(); return; }
    let found = [];
    try { found = await ask('find', {text}); } catch (error) { say(error.message); }
    if (field.value.trim() !== text) return;
    list.replaceChildren(...(found.length ? found.map((one, n) => {
      const made = h('li', {role: 'option', id: `found-${n}`, 'aria-selected': 'false', 'data-to': TARGETS[one.kind](one.name)},
        h('span', {class: 'kind'}, one.kind), one.name, h('span', {class: 'dim'}, ` ${one.detail}`));
      made.addEventListener('mousedown', event => { event.preventDefault(); open(made); });
      return made;
    }) : [h('li', {class: 'dim', role: 'presentation'}, 'Nothing found')]));
    list.hidden = false;
    field.setAttribute('aria-expanded', 'true');
    chosen = -1;
    say(`${found.length} found`);
  }, 120);
  field.addEventListener('input', search);
  field.addEventListener('blur', close);
  field.addEventListener('keydown', event => {
    if (event.key === 'ArrowDown') { event.preventDefault(); choose(chosen + 1); }
    else if (event.key === 'ArrowUp') { event.preventDefault(); choose(chosen - 1); }
    else if (event.key === 'Escape') close();
  });
  $('search').addEventListener('submit', event => {
    event.preventDefault();
    const options = [...list.querySelectorAll('[data-to]')];
    if (options.length) open(options[Math.max(0, chosen)]);
  });
}

// -- theme, keys, token ----------------------------------------------------------------------------------------------

const THEMES = ['auto', 'dark', 'light'];

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  $('theme').textContent = `Theme: ${name}`;
  localStorage.setItem('headgate-theme', name);
}

function setUpKeys() {
  let leader = 0;
  document.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input, select, textarea')) return;
    if (event.key === '/') { event.preventDefault(); $('find').focus(); return; }
    if (event.key === 'g') { leader = Date.now(); return; }
    if (Date.now() - leader < 1200) {
      const to = {o: '', g: 'graph', m: 'matrix', e: 'explain', p: 'pods', n: 'nodes', a: 'audit', w: 'whatif', l: 'policies'}[event.key];
      if (to !== undefined) location.hash = `#/${to}`;
    }
    leader = 0;
  });
}

function needsToken() {
  return new Promise(done => {
    const field = h('input', {type: 'password', id: 'token', autocomplete: 'off', required: true});
    const form = h('form', {class: 'token', onsubmit: event => {
      event.preventDefault();
      setToken(field.value);
      done();
      start();
    }}, h('h1', {tabindex: '-1'}, 'Token'), h('p', {}, 'This controller asks for the token in the file of its option ', h('code', {}, '--ui-token-file'), '.'),
    h('label', {for: 'token'}, 'Token'), field, h('button', {type: 'submit'}, 'Open'));
    $('main').replaceChildren(form);
    field.focus();
  });
}

let started = false;

function start() {
  if (store.state) { show(false); return; }
  if (!started) store.addEventListener('state', () => { if (!started) { started = true; show(false); } });
}

setTheme(THEMES.includes(localStorage.getItem('headgate-theme')) ? localStorage.getItem('headgate-theme') : 'auto');
$('theme').addEventListener('click', () => setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % 3]));
takeToken();
drawNav();
setUpSearch();
setUpKeys();
store.addEventListener('state', drawHealth);
store.addEventListener('connection', drawLink);
store.addEventListener('off', event => $('main').replaceChildren(failed(new Refused(403, event.detail))));
addEventListener('hashchange', () => { if (store.state) show(true); });
$('main').replaceChildren(h('p', {class: 'empty'}, 'Asking the controller…'));
start();
follow(needsToken);
