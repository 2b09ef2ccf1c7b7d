// Denied connections as they are reported.

import {h} from './dom.js';
import {store} from './store.js';
import {head, section} from './view.js';
import {counting, deniedTable} from './overview.js';

export function auditView(_, {on}) {
  const denied = h('div');
  const draw = () => denied.replaceChildren(counting(store.rates) || deniedTable(store.rates.denied));
  draw();
  on('rates', draw);
  return h('div', {}, head('Audit', {note: 'This controller does not report single connections. What its switches count is here: packets that policy drops, by pod.'}),
    section('Denied now', denied));
}
