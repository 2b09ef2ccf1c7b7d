// What a change would do, before it is applied: who reaches whom otherwise, flows, and rules that go and have counted.

import {h, policy, count, table, node} from './dom.js';
import {ask, send} from './api.js';
import {head, section, empty, failed} from './view.js';
import {Reach, Legend, grid, shownName} from './matrix.js';

const KEPT = 'headgate-whatif', MAX_CHANGES = 300;
const SIGNS = {added: '+', removed: '−', changed: '~'};
const EXAMPLE = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  namespace: NAMESPACE
  name: only-from-frontend
spec:
  podSelector:
    matchLabels:
      app: db
  policyTypes: [Ingress]
  ingress:
  - from:
    - podSelector:
        matchLabels:
          app: frontend
    ports:
    - port: 5432
`;

/** One grid of two matrices: what comes, goes, changes and stays. */
function difference(before, after) {
  const old = new Reach(before), now = new Reach(after), legend = new Legend();
  const names = [...new Set([...old.groups, ...now.groups].map(one => one.name))];
  const groups = names.map(name => ({name}));
  const cell = (row, column) => {
    const [one, other] = [old, now].map(each => each.cell(each.places.get(names[row]), each.places.get(names[column])));
    if (!one && !other) return null;
    const text = ports => (ports ? legend.short(ports.ports) : '');
    if (!one) return {text: `+${text(other)}`, kind: 'added', label: `added: ${other.ports}`};
    if (!other) return {text: `−${text(one)}`, kind: 'removed', label: `removed: ${one.ports}`};
    const same = one.ports === other.ports && one.complete === other.complete;
    return same ? {text: text(one), kind: 'same', label: `as before: ${one.ports}`} :
      {text: `~${text(other)}`, kind: 'changed', label: `${one.ports}${one.complete ? '' : ' (some)'} before, ${other.ports}${other.complete ? '' : ' (some)'} after`};
  };
  const used = n => names.some((_, other) => { const found = cell(n, other) || cell(other, n); return found; });
  const kept = groups.map((_, n) => n).filter(used);
  const shown = kept.map(n => groups[n]);
  const made = grid('The matrix before and after', shown, shown, (row, column) => cell(kept[row], kept[column]), () => {});
  return h('div', {class: 'matrix'}, made, legend.draw());
}

function outcome({plan, before, after}) {
  const counts = kind => plan.reach.filter(one => one.kind === kind).length;
  const side = names => names.slice(0, 6).map(shownName).join(', ') + (names.length > 6 ? ` and ${names.length - 6} more` : '');
  const changes = plan.reach.length || plan.switches.length;
  return h('div', {}, plan.notes.map(text => h('p', {class: 'note'}, text)),
    h('p', {class: `banner ${plan.reach.length ? 'warn' : 'good'}`, role: 'status'}, changes ?
      `Connections: ${counts('added')} added, ${counts('removed')} removed, ${counts('changed')} changed. Flows change on ${plan.switches.length} switches.` : 'Nothing would change.'),
    plan.objects.length > 0 && h('p', {}, 'Objects: ', plan.objects.map(one => `${one.kind} ${one.name} ${one.action}`).join(', ')),
    plan.traffic.some(one => one.packets > 0) && section('Rules that go, and have counted', table('Rules that go', [['Policy'], ['Rule'], ['Packets', 'number']],
      plan.traffic.map(one => [policy(one.policy), one.rule, count(one.packets)]))),
    plan.reach.length > 0 && section('Who reaches whom otherwise', h('ul', {class: 'changes'}, plan.reach.slice(0, MAX_CHANGES).map(one => h('li', {class: one.kind},
      h('span', {class: 'sign'}, SIGNS[one.kind]), h('span', {class: 'unseen'}, `${one.kind}: `), `${side(one.sources)} → ${side(one.destinations)}`,
      h('span', {class: 'dim'}, ` ${one.kind === 'changed' ? `${one.before.text} → ${one.after.text}` : (one.kind === 'added' ? one.after : one.before).text}`)))),
    plan.reach.length > MAX_CHANGES && h('p', {class: 'note'}, `and ${count(plan.reach.length - MAX_CHANGES)} more: headgate plan -o json has them`)),
    before.groups && section('The matrix before and after', difference(before, after)),
    plan.switches.length > 0 && section('Flows', table('Flows by switch', [['Node'], ['Bridge'], ['Added', 'number'], ['Removed', 'number'], ['Changed', 'number']],
      plan.switches.slice(0, 100).map(one => [node(one.node), one.bridge, count(one.added), count(one.removed), count(one.changed)]))));
}

export async function whatIfView({policy: key = ''}, {signal}) {
  const result = h('div', {}, empty('Nothing is applied: the controller computes what would change.'));
  let text = sessionStorage.getItem(KEPT) || EXAMPLE;
  if (key) text = (await ask('policy', {key}, signal)).manifest.lines.join('\n') + '\n';
  const editor = h('textarea', {id: 'manifest', class: 'editor', spellcheck: 'false', autocapitalize: 'off', rows: 22, value: text, 'aria-describedby': 'editor-keys',
    oninput: () => sessionStorage.setItem(KEPT, editor.value)});
  const mode = h('select', {name: 'mode'}, h('option', {value: 'apply'}, 'apply it'), h('option', {value: 'delete'}, 'delete it'));
  const button = h('button', {type: 'submit', class: 'primary'}, 'What would change?');
  const form = h('form', {class: 'whatif', onsubmit: async event => {
    event.preventDefault();
    button.disabled = true;
    result.replaceChildren(empty('Computing…'));
    try {
      result.replaceChildren(outcome(await send('plan', {[mode.value]: editor.value}, signal)));
      result.dataset.done = 'true';
    } catch (error) {
      if (error.name !== 'AbortError') result.replaceChildren(failed(error));
    } finally {
      button.disabled = false;
    }
  }}, h('label', {for: 'manifest'}, 'Policies, namespaces, pods or workloads, as YAML'), editor,
  h('div', {class: 'filters'}, h('label', {class: 'field'}, 'What if I', mode), button, h('span', {class: 'note', id: 'editor-keys'}, 'Ctrl and Enter computes.')));
  editor.addEventListener('keydown', event => { if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(); } });
  return h('div', {}, head('What if', {command: `headgate plan ${key ? 'policy.yaml' : 'FILE'}`, note: 'The terminal takes files and folders; this page takes one text.'}),
    h('div', {class: 'split'}, form, result));
}
